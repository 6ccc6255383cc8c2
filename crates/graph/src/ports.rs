//! Where bricks listen, found out beforehand.
//!
//! protocol/client asks the glusterd of its brick's server itself, by a connection for each brick from one of the highest ports that are
//! free, and tries them one by one from the first (`af_inet_bind_to_port_lt_ceiling`). Having closed it, it keeps that port for a minute:
//! who runs the command often would wait for ever longer searches.

use std::collections::BTreeMap;
use std::thread::Builder;
use std::time::{Duration, Instant};

use crate::glusterd::Glusterd;
use crate::reason::option;
use crate::volfile::Volfile;

/// For how long a server is tried, and then asked: what it has not answered by then protocol/client finds out.
const WITHIN: Duration = Duration::from_secs(1);

/// Tells the clients of a volfile the ports of their bricks, as far as these are known.
pub fn tell(volfile: &mut Volfile) {
    let mut bricks: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for client in volfile.translators().iter().filter(|translator| translator.kind == "protocol/client") {
        let asks = option(client, "remote-port").is_none();
        if let (true, Some(host), Some(brick)) =
            (asks, option(client, "remote-host"), option(client, "remote-subvolume"))
        {
            bricks.entry(host.to_owned()).or_default().push((client.name.clone(), brick.to_owned()));
        }
    }
    let ports = std::thread::scope(|scope| {
        let asked: Vec<_> = bricks
            .iter()
            .map(|(host, bricks)| Builder::new().spawn_scoped(scope, move || of(host, bricks)))
            .collect();
        asked.into_iter().flatten().flat_map(|thread| thread.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    for (client, port) in ports {
        volfile.set(|name, _| name == client, "remote-port", &port.to_string());
    }
}

/// Those of the clients whose bricks this server has.
fn of<'a>(host: &str, bricks: &'a [(String, String)]) -> Vec<(&'a str, u16)> {
    let Ok(mut glusterd) = Glusterd::reach(host, WITHIN, WITHIN) else { return Vec::new() };
    let until = Instant::now() + WITHIN;
    let asks = |_: &&(String, String)| Instant::now() < until;
    let answers = bricks.iter().take_while(asks);
    // Nor is it asked about another one if it does not answer.
    let answers = answers.map_while(|(client, brick)| Some((client, glusterd.port_of(brick).ok()?)));
    answers.filter_map(|(client, port)| Some((client.as_str(), port?))).collect()
}
