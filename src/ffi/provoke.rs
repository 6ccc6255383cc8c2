//! Panics on purpose, for the tests.

/// Faults that a test asked for by name, each for once.
static PROVOKED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

/// Panics at the next [`provoked`] of that name.
pub fn provoke(place: &str) {
    PROVOKED.lock().unwrap_or_else(|e| e.into_inner()).push(place.to_owned());
}

/// A place that can be made to panic.
pub fn provoked(place: &str) {
    let mut places = PROVOKED.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(at) = places.iter().position(|p| p == place) {
        places.remove(at);
        drop(places);
        panic!("provoked: {place}");
    }
}
