//! The time that processes spend on processors, and the memory they hold, from Linux's `/proc`.

use std::fs;

/// What a process has used, in seconds: itself, and its children that have ended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Used {
    parent: u32,
    own: f64,
    children: f64,
}

/// Reads a line of `/proc/PID/stat`; the kernel counts in ticks.
fn parse(stat: &str, ticks: f64) -> Option<Used> {
    // The name, in parentheses, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let time = |place: usize| fields.get(place)?.parse::<f64>().ok().map(|count| count / ticks);
    let (user, system, children_user, children_system) = (time(11)?, time(12)?, time(13)?, time(14)?);
    Some(Used { parent: fields.get(1)?.parse().ok()?, own: user + system, children: children_user + children_system })
}

fn used(pid: u32) -> Option<Used> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, rustix::param::clock_ticks_per_second() as f64)
}

/// Seconds that a process and its children (PostgreSQL has one for each connection) have spent so far.
pub fn seconds(pid: u32) -> f64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = pids.filter_map(used).filter(|used| used.parent == pid).map(|used| used.own);
    // A child that has ended is counted by its parent.
    used(pid).map_or(0.0, |used| used.own + used.children) + children.sum::<f64>()
}

/// Seconds that this thread has spent so far.
pub fn own_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What a process holds of the machine's memory, in bytes.
pub fn memory(pid: u32) -> Option<u64> {
    field(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

/// The most memory that this process ever held, in bytes.
pub fn peak_memory() -> Option<u64> {
    field(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// A field of `/proc/PID/status`, which is in KiB.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel() {
        let line = "42 (a (strange) name) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 25 25 20 0 3 0 100 1 1";
        assert_eq!(parse(line, 100.0), Some(Used { parent: 7, own: 2.0, children: 0.5 }));
        assert_eq!(parse("42 (cut", 100.0), None);
        assert_eq!(field("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(field("Name:\tx\n", "VmRSS:"), None);
    }

    #[test]
    fn our_own_time_passes() {
        let begin = own_seconds();
        while own_seconds() - begin < 0.05 {}
        assert!(seconds(std::process::id()) > 0.0);
        assert!(memory(std::process::id()).is_some_and(|bytes| bytes > 100_000));
    }
}
