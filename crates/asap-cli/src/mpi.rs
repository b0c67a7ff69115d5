//! Ranks of MPI. The main thread owns MPI and carries bytes for the program, which runs in a thread of its own, so that any thread may
//! ask for an exchange.

use std::env;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use asap::jobs::follow::follow;
use asap::run::ranks;
use asap_net::team::Ranks;
use mpi::Threading;
use mpi::environment::processor_name;
use mpi::request;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};

use crate::args::Arguments;
use crate::failure;

/// Seconds that a rank waits for another one's part of a step, unless the variable says otherwise.
const PATIENCE: f64 = 600.0;
const VARIABLE: &str = "ASAP_RANK_SECONDS";
/// An exchange that is not done at once is looked at so often.
const PAUSE: Duration = Duration::from_micros(100);
/// How long it is looked at all the time.
const BUSY: Duration = Duration::from_millis(20);
/// The most bytes of a message.
const PIECE: usize = 1 << 28;

/// A wish of the program.
struct Swap {
    partner: usize,
    bytes: Vec<u8>,
    patient: bool,
}

/// The program's end of the exchanges.
#[derive(Debug)]
struct World {
    rank: usize,
    count: usize,
    ask: Mutex<Sender<Swap>>,
    answer: Mutex<Receiver<Vec<u8>>>,
}

impl Ranks for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn swap(&self, partner: usize, bytes: Vec<u8>, patient: bool) -> Vec<u8> {
        let ask = self.ask.lock().unwrap_or_else(PoisonError::into_inner);
        ask.send(Swap { partner, bytes, patient }).expect("the main thread listens");
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.recv().expect("the main thread answers")
    }
}

/// Runs the program on rank 0, and lets the others follow it.
pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
        return failure::exit_code(Err(anyhow::anyhow!("MPI cannot be initialized")));
    };
    let world = universe.world();
    let (rank, count) = (world.rank() as usize, world.size() as usize);
    if !count.is_power_of_two() {
        // One message is enough.
        let fault =
            format!("mpirun: expected a power of two of processes, such as 2 or 4, found {count}");
        return match rank {
            0 => failure::exit_code(Err(crate::failure::Usage(fault).into())),
            _ => ExitCode::from(2),
        };
    }
    let patience = match env::var(VARIABLE).map(|text| text.parse::<f64>()) {
        Err(_) => PATIENCE,
        Ok(Ok(seconds)) if seconds > 0.0 && seconds < 1e9 => seconds,
        Ok(_) => {
            let fault = format!("{VARIABLE}: expected seconds above 0");
            return failure::exit_code(Err(crate::failure::Usage(fault).into()));
        }
    };
    let (ask, asked) = channel();
    let (answers, answer) = channel();
    let ranks: Arc<dyn Ranks> =
        Arc::new(World { rank, count, ask: Mutex::new(ask), answer: Mutex::new(answer) });
    let program = thread::spawn(move || {
        if rank > 0 {
            let threads = arguments.common.threads.unwrap_or(0);
            return failure::exit_code(follow(&ranks, threads).map_err(Into::into));
        }
        ranks::lead(ranks);
        let outcome = failure::exit_code(crate::run(&arguments));
        ranks::dismiss();
        outcome
    });
    // Ends when the program and its end of the channel are gone, or when it has ended but is still referred to.
    loop {
        match asked.recv_timeout(Duration::from_millis(100)) {
            Ok(swap) => {
                let bytes = exchange(&world, &swap, Duration::from_secs_f64(patience));
                if answers.send(bytes).is_err() {
                    break;
                }
            }
            Err(_) if program.is_finished() => break,
            Err(_) => {}
        }
    }
    match program.join() {
        Ok(code) => code,
        // The panic was printed; the others must not wait.
        Err(_) => world.abort(101),
    }
}

/// Sends the bytes and receives those of the partner, which are announced by their number.
fn exchange(world: &SimpleCommunicator, swap: &Swap, patience: Duration) -> Vec<u8> {
    let wait = Wait { world, partner: swap.partner, patience: (!swap.patient).then_some(patience) };
    let mut length = [0_u64];
    wait.swap(&[swap.bytes.len() as u64], &mut length);
    let mut bytes = vec![0; length[0] as usize];
    let (mut sent, mut received) = (swap.bytes.chunks(PIECE), bytes.chunks_mut(PIECE));
    loop {
        match (sent.next(), received.next()) {
            (None, None) => break,
            (own, theirs) => wait.swap(own.unwrap_or_default(), theirs.unwrap_or_default()),
        }
    }
    bytes
}

/// An exchange with a partner.
struct Wait<'a> {
    world: &'a SimpleCommunicator,
    partner: usize,
    patience: Option<Duration>,
}

impl Wait<'_> {
    /// Ends the job if the partner is too late.
    fn swap<T: mpi::traits::Equivalence>(&self, own: &[T], theirs: &mut [T]) {
        let partner = self.world.process_at_rank(self.partner as i32);
        let started = Instant::now();
        request::scope(|scope| {
            let mut send = Some(partner.immediate_send(scope, own));
            let mut receive = Some(partner.immediate_receive_into(scope, theirs));
            while send.is_some() || receive.is_some() {
                send = send.and_then(|request| request.test().err());
                receive = receive.and_then(|request| request.test().err());
                let waited = started.elapsed();
                if self.patience.is_some_and(|patience| waited > patience) {
                    self.give_up(waited);
                }
                if waited > BUSY {
                    thread::sleep(PAUSE);
                }
            }
        });
    }

    fn give_up(&self, waited: Duration) -> ! {
        let host = processor_name().unwrap_or_else(|_| "an unknown host".to_owned());
        eprintln!(
            "asap: rank {} has not answered rank {} on {host} for {:.0} s ({VARIABLE}): it hangs or is cut off. The job ends; the last \
             checkpoint is whole: go on with --resume, with fewer processes if a host is lost",
            self.partner,
            self.world.rank(),
            waited.as_secs_f64()
        );
        self.world.abort(1)
    }
}
