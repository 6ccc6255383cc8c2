//! What many measurements of one thing say.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// The middle of some measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Spread {
    /// Half are below.
    pub median: f64,
    /// A tenth is below.
    pub p10: f64,
    /// A tenth is above.
    pub p90: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of at least one measurement.
    ///
    /// # Panics
    /// If there is none.
    pub fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (sorted.len() - 1) as f64;
            let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Spread { median: at(0.5), p10: at(0.1), p90: at(0.9), count: sorted.len() }
    }

    /// The same in another unit.
    pub fn scaled(self, by: f64) -> Spread {
        let Spread { median, p10, p90, count } = self;
        Spread { median: median * by, p10: p10 * by, p90: p90 * by, count }
    }
}

/// What each round has measured of one of several things.
#[derive(Clone, Debug, Default)]
pub struct Series(pub Vec<f64>);

impl Series {
    /// Their spread.
    pub fn spread(&self) -> Spread {
        Spread::of(&self.0)
    }

    /// Round by round, both of the same round.
    pub fn with(&self, other: &Series, both: impl Fn(f64, f64) -> f64) -> Series {
        Series(self.0.iter().zip(&other.0).map(|(a, b)| both(*a, *b)).collect())
    }

    /// How many times the other of the same round.
    pub fn over(&self, other: &Series) -> Spread {
        self.with(other, |a, b| a / b).spread()
    }
}

/// One of several things that take turns: it gets the number of the round, and returns what it has measured.
pub type Turn<'a> = Box<dyn FnMut(usize) -> f64 + 'a>;

/// Measures several things in turn, so many rounds, every second round in reverse: what becomes slower with time, or after
/// another, is not taken for a difference. One round goes before, which does not count.
pub fn interleave(rounds: usize, turns: &mut [Turn<'_>]) -> Vec<Series> {
    let mut all = vec![Series::default(); turns.len()];
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..turns.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for n in order {
            let measured = turns[n](round);
            if round > 0 {
                all[n].0.push(measured);
            }
        }
    }
    all
}

/// How many seconds it takes.
pub fn seconds<T>(act: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let result = act();
    let took = start.elapsed().as_secs_f64();
    drop(result);
    took
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_lies_between_its_values() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((spread.median, spread.p10, spread.p90, spread.count), (3.0, 1.4, 4.6, 5));
        assert_eq!(Spread::of(&[7.0]), Spread { median: 7.0, p10: 7.0, p90: 7.0, count: 1 });
    }

    #[test]
    fn turns_alternate_and_the_first_round_does_not_count() {
        let order = std::cell::RefCell::new(Vec::new());
        let turn = |name: char| -> Turn<'_> {
            let order = &order;
            Box::new(move |round| {
                order.borrow_mut().push(name);
                round as f64
            })
        };
        let all = interleave(2, &mut [turn('a'), turn('b')]);
        assert_eq!(order.borrow().iter().collect::<String>(), "abbaab");
        assert_eq!((&all[0].0, &all[1].0), (&vec![1.0, 2.0], &vec![1.0, 2.0]));
        assert_eq!(all[0].over(&all[1]).median, 1.0);
    }
}
