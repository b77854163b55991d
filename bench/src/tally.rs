//! How requests were answered, and how long that took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::client::{Exchange, Outcome};

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// How many requests.
    pub count: usize,
    /// Half of them took no longer.
    pub p50: f64,
    /// 99 of 100 took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let milliseconds = |time: &Duration| time.as_micros() as f64 / 1e3;
        let percentile = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).map_or(0.0, milliseconds)
        };
        Self { count: times.len(), p50: percentile(50), p99: percentile(99), max: percentile(100) }
    }
}

/// Answers by status; `unsent` had no connection, `unknown` were not answered.
pub type Answers = BTreeMap<String, Times>;

/// The answers to requests as they come in.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<String, Vec<Duration>>>);

impl Tally {
    /// Notes one.
    pub fn note(&self, exchange: &Exchange) {
        let answer = match &exchange.outcome {
            Outcome::Answered(response) => response.status.to_string(),
            Outcome::Unsent => "unsent".to_owned(),
            Outcome::Unknown => "unknown".to_owned(),
        };
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.entry(answer).or_default().push(exchange.took);
    }

    /// What came in.
    pub fn answers(&self) -> Answers {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.iter_mut().map(|(answer, times)| (answer.clone(), Times::of(times))).collect()
    }
}

/// How many of these answers have a status.
pub fn answered(answers: &Answers, status: &str) -> usize {
    answers.get(status).map_or(0, |times| times.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Times::of(&mut times), Times { count: 200, p50: 100.0, p99: 198.0, max: 200.0 });
        let mut one = [Duration::from_micros(1500)];
        assert_eq!(Times::of(&mut one), Times { count: 1, p50: 1.5, p99: 1.5, max: 1.5 });
        assert_eq!(Times::of(&mut []), Times::default());
    }
}
