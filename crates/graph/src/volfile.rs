//! Volfiles: what a client is made of.

use std::fmt;

use crate::vet::is_word;

/// The translators of a graph, each after those that are beneath it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volfile(Vec<Translator>);

/// One translator: a `volume` of a volfile.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Translator {
    /// Its name in this graph.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Names and values.
    pub options: Vec<(String, String)>,
    /// Those beneath it.
    pub subvolumes: Vec<String>,
}

impl Volfile {
    /// Reads a volfile as glusterd writes them; `None` if it is none, or GlusterFS would read something else in it: what is read here
    /// is what is written again.
    pub fn parse(text: &str) -> Option<Volfile> {
        let word = |text: &str| is_word(text).then(|| text.to_owned());
        let mut translators = Vec::new();
        let mut current: Option<Translator> = None;
        let blank = [' ', '\t'];
        let lines = text.split('\n').map(|line| line.trim_matches(blank));
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (keyword, rest) = line.split_once(blank).unwrap_or((line, ""));
            let rest = rest.trim_start_matches(blank);
            match (keyword, &mut current) {
                ("volume", None) => {
                    let (kind, options, subvolumes) = (String::new(), Vec::new(), Vec::new());
                    current = Some(Translator { name: word(rest)?, kind, options, subvolumes });
                }
                ("type", Some(translator)) => translator.kind = word(rest)?,
                ("option", Some(translator)) => {
                    let (name, value) = rest.split_once(blank)?;
                    translator.options.push((word(name)?, word(value.trim_start_matches(blank))?));
                }
                ("subvolumes", Some(translator)) => {
                    let names = rest.split(blank).filter(|name| !name.is_empty());
                    translator.subvolumes = names.map(word).collect::<Option<_>>()?;
                }
                ("end-volume", Some(_)) if rest.is_empty() => translators.extend(current.take()),
                _ => return None,
            }
        }
        (current.is_none() && !translators.is_empty()).then_some(Volfile(translators))
    }

    /// All of them, each after those that are beneath it.
    pub fn translators(&self) -> &[Translator] {
        &self.0
    }

    /// The value of an option of the first translator of this type.
    pub fn option(&self, kind: &str, name: &str) -> Option<&str> {
        let translator = self.0.iter().find(|translator| translator.kind == kind)?;
        translator.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Leaves out translators whose type is one of these, or begins with one that ends in a slash; what is above them is then
    /// above what is beneath them. Those that have not exactly one beneath them stay.
    pub fn leave_out(&mut self, kinds: &[&str]) {
        let goes = |translator: &Translator| {
            let matches = |kind: &&str| match kind.ends_with('/') {
                true => translator.kind.starts_with(kind),
                false => translator.kind == *kind,
            };
            translator.subvolumes.len() == 1 && kinds.iter().any(matches)
        };
        let mut left: Vec<Translator> = Vec::new();
        let mut gone: Vec<(String, String)> = Vec::new();
        for mut translator in std::mem::take(&mut self.0) {
            for beneath in &mut translator.subvolumes {
                // What is beneath comes first, so one step is enough.
                if let Some((_, instead)) = gone.iter().find(|(name, _)| name == beneath) {
                    *beneath = instead.clone();
                }
            }
            match goes(&translator) {
                true => gone.push((translator.name, translator.subvolumes.remove(0))),
                false => left.push(translator),
            }
        }
        self.0 = left;
    }

    /// Takes all options from the translators of this type.
    pub fn strip(&mut self, kind: &str) {
        self.0
            .iter_mut()
            .filter(|translator| translator.kind == kind)
            .for_each(|other| other.options.clear());
    }

    /// Puts a translator on top.
    pub fn put_on_top(&mut self, name: &str, kind: &str, options: &[(&str, &str)]) {
        let top = self.0.last().map(|translator| translator.name.clone());
        let mut own = Translator {
            name: name.to_owned(),
            kind: kind.to_owned(),
            options: Vec::new(),
            subvolumes: top.into_iter().collect(),
        };
        options.iter().for_each(|(name, value)| own.set(name, value));
        self.0.push(own);
    }

    /// Sets an option of all translators that `which`, given name and type, chooses.
    pub fn set(&mut self, which: impl Fn(&str, &str) -> bool, option: &str, value: &str) {
        let chosen = self.0.iter_mut().filter(|translator| which(&translator.name, &translator.kind));
        chosen.for_each(|translator| translator.set(option, value));
    }
}

impl Translator {
    fn set(&mut self, option: &str, value: &str) {
        self.options.retain(|(name, _)| name != option);
        self.options.push((option.to_owned(), value.to_owned()));
    }
}

impl fmt::Display for Volfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Translator { name, kind, options, subvolumes } in &self.0 {
            writeln!(f, "volume {name}\n    type {kind}")?;
            options.iter().try_for_each(|(name, value)| writeln!(f, "    option {name} {value}"))?;
            if !subvolumes.is_empty() {
                writeln!(f, "    subvolumes {}", subvolumes.join(" "))?;
            }
            writeln!(f, "end-volume\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
volume v-client-0
    type protocol/client
    option remote-host a-b
end-volume

volume v-client-1
    type protocol/client
end-volume

volume v-dht
    type cluster/distribute
    subvolumes v-client-0 v-client-1
end-volume

volume v-write-behind
    type performance/write-behind
    subvolumes v-dht
end-volume

volume v-md-cache
    type performance/md-cache
    option x y
    subvolumes v-write-behind
end-volume

volume v
    type debug/io-stats
    subvolumes v-md-cache
end-volume

";

    #[test]
    fn a_volfile_is_written_as_it_was_read() {
        let text = TEXT
            .replace("option remote-host a-b", "option  remote-host\t a-b ")
            .replace("volume v\n", "# x\nvolume v\n");
        assert_eq!(Volfile::parse(&text).unwrap().to_string(), TEXT);
    }

    #[test]
    fn what_is_no_volfile() {
        for bad in [
            "",
            "volume x",
            "type y\n",
            "volume x\nvolume y\nend-volume",
            "volume x\nend-volume\nend-volume",
            "\0",
        ] {
            assert_eq!(Volfile::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_private_graph() {
        let mut volfile = Volfile::parse(TEXT).unwrap();
        volfile.leave_out(&["performance/", "debug/io-stats"]);
        volfile.put_on_top("top", "user/fsnap-client", &[("a", "b")]);
        volfile.set(|name, _| name == "v-client-1", "remote-host", "c");
        volfile.set(|_, kind| kind == "protocol/client", "remote-host", "d");
        let kept = &TEXT[..TEXT.find("volume v-write-behind").unwrap()];
        let kept = kept.replace("a-b", "d").replace(
            "client-1\n    type protocol/client\n",
            "client-1\n    type protocol/client\n    option remote-host d\n",
        );
        let top =
            "volume top\n    type user/fsnap-client\n    option a b\n    subvolumes v-dht\nend-volume\n\n";
        assert_eq!(volfile.to_string(), kept + top);
    }
}
