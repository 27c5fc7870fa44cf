//! Which of the machine's cores servers have and which clients have, and who else used them.

use std::fs;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The kernel counts a core's time in these.
const TICKS_A_SECOND: f64 = 100.0;

/// Fields of a core's line in `/proc/stat` that mean work, or that the hypervisor took it away: user,
/// nice, system, irq, softirq, steal.
const BUSY: [usize; 6] = [0, 1, 2, 5, 6, 7];

/// The machine, divided.
#[derive(Clone, Debug)]
pub(crate) struct Cores {
    pub(crate) servers: Vec<usize>,
    pub(crate) clients: Vec<usize>,
}

impl Cores {
    /// The first `servers` cores, and all others for clients; `None` if none would be left for them.
    pub(crate) fn with(servers: usize) -> Option<Cores> {
        let all = std::thread::available_parallelism().expect("the machine has cores").get();
        let cores = Cores { servers: (0..servers).collect(), clients: (servers..all).collect() };
        (servers < all).then_some(cores)
    }
}

/// What this thread starts from now on, threads and processes, runs on these cores.
pub(crate) fn stay_on(cores: &[usize]) {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core).expect("not so many cores");
    }
    sched_setaffinity(Pid::from_raw(0), &set).expect("cores that the machine has");
}

/// Seconds that these cores have worked for anybody.
pub(crate) fn busy_seconds(cores: &[usize]) -> f64 {
    let table = fs::read_to_string("/proc/stat").expect("the kernel's account");
    let of_core = |core: &usize| -> f64 {
        let name = format!("cpu{core} ");
        let line = table.lines().find_map(|line| line.strip_prefix(&name)).expect("such a core");
        let ticks: Vec<f64> =
            line.split_ascii_whitespace().map(|ticks| ticks.parse().expect("a number")).collect();
        BUSY.iter().map(|&field| ticks[field]).sum()
    };
    cores.iter().map(of_core).sum::<f64>() / TICKS_A_SECOND
}
