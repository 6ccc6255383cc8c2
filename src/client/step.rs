//! Where the tests have a command die or wait.

/// A step is done, or begins. For the tests: with `FSNAP_FAULT=STEP:kill:MICROSECONDS` the process is killed that much later, with
/// `FSNAP_FAULT=STEP:wait:MICROSECONDS` it says so and waits.
pub fn step(_name: &str) {
    #[cfg(feature = "fault-injection")]
    if let Ok(wish) = std::env::var("FSNAP_FAULT")
        && let [name, what, pause] = wish.split(':').collect::<Vec<_>>()[..]
        && name == _name
    {
        let pause = std::time::Duration::from_micros(pause.parse().unwrap_or(0));
        let kill = move || {
            std::thread::sleep(pause);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        };
        match what {
            "wait" => {
                eprintln!("{name}");
                std::thread::sleep(pause);
            }
            _ if pause.is_zero() => kill(),
            _ => drop(std::thread::spawn(kill)),
        }
    }
}
