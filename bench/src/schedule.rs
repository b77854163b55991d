//! What a run does, drawn from its seed: the same seed gives the same requests, pauses and faults in the same order.
//! How they interleave is up to the machine.

use std::time::Duration;

use fastrand::Rng;

/// How many requests of one visitor are under way at once.
pub const HANDS: usize = 4;
/// How many requests each hand makes in the life of a session.
const STEPS: usize = 30;

/// The streams of random numbers: what is drawn for one thing does not change what is drawn for another.
#[derive(Clone, Copy)]
enum Stream {
    Faults,
    Burst,
    Life,
}

/// A generator for one of the streams, and one of its parts.
fn random(seed: u64, stream: Stream, part: [u64; 2]) -> Rng {
    [stream as u64, part[0], part[1]].into_iter().fold(Rng::with_seed(seed), |mut random, number| {
        Rng::with_seed(random.u64(..) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    })
}

fn between(random: &mut Rng, least: u64, most: u64) -> Duration {
    Duration::from_micros(random.u64(least..=most))
}

/// What is done to a server, or to the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL, and a start after this time.
    Kill(Duration),
    /// SIGSTOP, and SIGCONT after this time.
    Freeze(Duration),
    /// An orderly stop and a start.
    Restart,
}

/// A fault, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// How long everything works before.
    pub pause: Duration,
    /// Which of the victims.
    pub victim: usize,
    /// What is done to it.
    pub fault: Fault,
}

/// Faults without an end. Each kind of fault comes to each victim once before any comes again, in random order.
pub fn faults(seed: u64, victims: usize, freeze: Duration) -> impl Iterator<Item = Event> {
    let mut random = random(seed, Stream::Faults, [0, 0]);
    let mut deck = Vec::new();
    std::iter::repeat_with(move || {
        if deck.is_empty() {
            deck.extend((0..victims).flat_map(|victim| (0..3).map(move |kind| (victim, kind))));
            random.shuffle(&mut deck);
        }
        let (victim, kind) = deck.pop().expect("there is a victim");
        let pause = between(&mut random, 500_000, 3_000_000);
        let down = between(&mut random, 50_000, 2_000_000);
        let fault = [Fault::Kill(down), Fault::Freeze(freeze), Fault::Restart][kind];
        Event { pause, victim, fault }
    })
}

/// Requests of one session that are in flight together, while something happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Of each request: when it sets out, and how long its handler works between loading the session and its end.
    pub requests: Vec<(Duration, Duration)>,
    /// When the session is ended, or rotated.
    pub blow: Duration,
}

/// A burst of so many requests. All are sent before the blow, and most end after it.
pub fn burst(seed: u64, round: u64, requests: usize) -> Burst {
    let mut random = random(seed, Stream::Burst, [round, 0]);
    let request = || (between(&mut random, 0, 20_000), between(&mut random, 1_000, 80_000));
    Burst { requests: std::iter::repeat_with(request).take(requests).collect(), blow: Duration::from_millis(25) }
}

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Sets a key that no other request sets.
    Set,
    /// Adds one to the session's counter.
    Count,
    /// Reads what the same hand set last.
    Read,
    /// Gives the session a new key.
    Rotate,
    /// Signs out, while the other hands go on.
    SignOut,
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub act: Act,
    /// How long its handler works between loading the session and its end.
    pub hold: Duration,
}

/// The life of one session: what each of its visitor's hands does, one request after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The steps of each hand.
    pub hands: [Vec<Step>; HANDS],
}

/// The life of a visitor's session of this number. A third of them are rotated on the way, a third signed out, never
/// both: a sign-out that meets a rotation may end the one key or the other.
pub fn life(seed: u64, visitor: u64, number: u64) -> Life {
    let mut random = random(seed, Stream::Life, [visitor, number]);
    let mut hands: [Vec<Step>; HANDS] = std::array::from_fn(|_| {
        let step = |_| {
            let act = match random.u8(0..100) {
                0..50 => Act::Set,
                50..75 => Act::Count,
                _ => Act::Read,
            };
            let hold = if random.bool() { Duration::ZERO } else { between(&mut random, 0, 5_000) };
            Step { act, hold }
        };
        (0..STEPS).map(step).collect()
    });
    let place = STEPS / 4 + random.usize(0..STEPS / 2);
    match random.u8(0..3) {
        0 => hands[0][place].act = Act::Rotate,
        1 => hands[0][place].act = Act::SignOut,
        _ => {}
    }
    Life { hands }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREEZE: Duration = Duration::from_secs(5);

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        for seed in [0, 1, 42, u64::MAX] {
            assert!(faults(seed, 2, FREEZE).take(100).eq(faults(seed, 2, FREEZE).take(100)));
            assert_eq!(burst(seed, 3, 100), burst(seed, 3, 100));
            assert_eq!(life(seed, 5, 7), life(seed, 5, 7));
        }
    }

    #[test]
    fn another_seed_and_another_part_give_another_schedule() {
        assert!(!faults(1, 2, FREEZE).take(100).eq(faults(2, 2, FREEZE).take(100)));
        assert_ne!(burst(1, 0, 100), burst(2, 0, 100));
        assert_ne!(burst(1, 0, 100), burst(1, 1, 100));
        assert_ne!(life(1, 0, 0), life(2, 0, 0));
        assert_ne!(life(1, 0, 1), life(1, 1, 0));
    }

    /// A schedule that was published with its seed has to stay what it was.
    #[test]
    fn a_seed_means_the_same_for_ever() {
        let events: Vec<_> =
            faults(7, 2, FREEZE).take(3).map(|event| (event.pause.as_micros(), event.victim)).collect();
        assert_eq!(events, [(980_617, 0), (1_347_256, 1), (2_940_178, 1)]);
    }

    #[test]
    fn every_fault_comes_to_every_victim() {
        let events: Vec<Event> = faults(9, 2, FREEZE).take(6).collect();
        for victim in 0..2 {
            let mine: Vec<Fault> =
                events.iter().filter(|event| event.victim == victim).map(|event| event.fault).collect();
            assert!(mine.contains(&Fault::Restart) && mine.contains(&Fault::Freeze(FREEZE)), "{mine:?}");
            assert!(mine.iter().any(|fault| matches!(fault, Fault::Kill(_))), "{mine:?}");
        }
    }

    #[test]
    fn requests_of_a_burst_set_out_before_the_blow() {
        let burst = burst(11, 0, 100);
        assert_eq!(burst.requests.len(), 100);
        assert!(burst.requests.iter().all(|(start, _)| *start < burst.blow));
        let later = burst.requests.iter().filter(|(start, hold)| *start + *hold > burst.blow).count();
        assert!((50..100).contains(&later), "{later} end after the blow");
    }

    #[test]
    fn no_session_is_both_rotated_and_signed_out() {
        let (mut rotated, mut signed_out) = (0, 0);
        for number in 0..300 {
            let life = life(13, 0, number);
            let acts = |wanted| life.hands.iter().flatten().filter(|step| step.act == wanted).count();
            assert!(acts(Act::Rotate) + acts(Act::SignOut) <= 1);
            rotated += acts(Act::Rotate);
            signed_out += acts(Act::SignOut);
        }
        assert!((60..140).contains(&rotated) && (60..140).contains(&signed_out), "{rotated}, {signed_out}");
    }
}
