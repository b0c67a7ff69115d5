//! Virtual workers: a batch is always computed in the same parts, each with batch norm statistics of its own, and what the parts give is
//! joined in one fixed tree. So the result depends on the number of workers, and not on the processes that do their work (EasyScale, SC'23).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use asap_core::MixingTables;
use asap_data::{Batch, Loader};
use asap_kernels::WholeBatch;
use burn::tensor::{Tensor, TensorData};

use crate::parameters::{WeightGradients, host};

/// What the parts of a batch give.
pub trait Joint: Sized {
    /// The sum of two.
    fn plus(self, other: Self) -> Self;

    /// What is a mean over images, times a factor; sums and counts stay.
    fn times(self, factor: f32) -> Self;

    /// Appends all numbers.
    fn send(&self, to: &mut Numbers);

    /// The same with numbers that another process has sent.
    fn receive(&self, from: &mut Received<'_>) -> Self;
}

/// Numbers on their way to another process, of the same kind of machine.
pub type Numbers = Vec<u8>;

/// Numbers that arrive, read in the order in which they were sent.
#[derive(Debug)]
pub struct Received<'a>(&'a [u8]);

impl Received<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_first_chunk().expect("as much as was sent");
        self.0 = later;
        *now
    }

    fn single(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| f32::from_le_bytes(self.take())).collect()
    }

    pub(crate) fn double(&mut self) -> f64 {
        f64::from_le_bytes(self.take())
    }
}

/// The processes that share a run; each has the same state, and computes a part of every batch.
pub trait Ranks: fmt::Debug + Send + Sync {
    /// The number of this one, from 0.
    fn rank(&self) -> usize;

    /// How many there are, a power of two.
    fn count(&self) -> usize;

    /// Sends bytes to another rank, and returns those that it sends meanwhile. A rank that does not answer in time ends the job; `patient`
    /// waits for ever, as for work that is not there yet.
    fn swap(&self, partner: usize, own: Vec<u8>, patient: bool) -> Vec<u8>;
}

/// What every rank sends, by its number.
pub fn gather(ranks: &dyn Ranks, own: Vec<u8>, patient: bool) -> Vec<Vec<u8>> {
    let (rank, count) = (ranks.rank(), ranks.count());
    let mut known = vec![(rank, own)];
    let mut distance = 1;
    while distance < count {
        let mut sent = Vec::new();
        for (of, bytes) in &known {
            sent.extend((*of as u64).to_le_bytes());
            sent.extend((bytes.len() as u64).to_le_bytes());
            sent.extend_from_slice(bytes);
        }
        let answer = ranks.swap(rank ^ distance, sent, patient);
        let mut rest = Received(&answer);
        while !rest.0.is_empty() {
            let of = u64::from_le_bytes(rest.take()) as usize;
            let length = u64::from_le_bytes(rest.take()) as usize;
            let (bytes, later) = rest.0.split_at(length);
            known.push((of, bytes.to_vec()));
            rest.0 = later;
        }
        distance *= 2;
    }
    known.sort_unstable_by_key(|(of, _)| *of);
    known.into_iter().map(|(_, bytes)| bytes).collect()
}

/// The only process.
#[derive(Debug)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn count(&self) -> usize {
        1
    }

    fn swap(&self, _: usize, own: Vec<u8>, _: bool) -> Vec<u8> {
        own
    }
}

/// Virtual workers, and the processes that do their work.
#[derive(Clone, Debug)]
pub struct Team {
    workers: usize,
    ranks: Arc<dyn Ranks>,
    whole: bool,
}

/// One worker.
impl Default for Team {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Team {
    /// So many workers, a power of two, in this process.
    ///
    /// # Panics
    /// If it is not a power of two.
    pub fn new(workers: usize) -> Self {
        Self::of(workers, Arc::new(Alone))
    }

    /// So many workers in these processes, which have equally many.
    ///
    /// # Panics
    /// If either number is not a power of two, or there are more processes than workers.
    pub fn of(workers: usize, ranks: Arc<dyn Ranks>) -> Self {
        assert!(workers.is_power_of_two() && ranks.count().is_power_of_two());
        assert!(ranks.count() <= workers, "more processes than workers");
        Self { workers, ranks, whole: false }
    }

    /// The same with batch norms over whole batches: each process computes its part as one, and the result depends on their number, in its
    /// last digits.
    pub fn with_whole_batches(self, whole: bool) -> Self {
        Self { whole, ..self }
    }

    /// The whole of a batch, for [`crate::pass::Pass::with_whole_batch`], if batch norms are over whole batches of several processes.
    pub fn whole_batch(&self) -> Option<Arc<dyn WholeBatch>> {
        let several = self.whole && self.ranks.count() > 1;
        several.then(|| Arc::new(Sums(Arc::clone(&self.ranks))) as Arc<dyn WholeBatch>)
    }

    /// The number of parts of a batch.
    pub(crate) fn parts(&self) -> usize {
        if self.whole { self.ranks.count() } else { self.workers }
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The processes that do their work.
    pub fn ranks(&self) -> &dyn Ranks {
        &*self.ranks
    }

    /// The batches of a loader with the images that this process computes.
    pub fn own(&self, images: &Loader) -> Loader {
        images.part(self.ranks.rank(), self.ranks.count())
    }

    /// What a batch gives: `compute` is called for the part of each worker of this process, with the place of its first image in the batch, on a thread of
    /// the pool.
    ///
    /// # Panics
    /// If the batch cannot be divided among the workers.
    pub fn join<T: Joint + Send>(
        &self,
        batch: &Batch,
        mut compute: impl FnMut(&Batch, usize) -> T + Send,
    ) -> T {
        let mut compute = |part: &Batch, first| on_worker(|| compute(part, first));
        let parts = self.parts();
        if parts == 1 {
            return compute(batch, 0);
        }
        let images = batch.labels.len();
        assert!(images.is_multiple_of(parts), "{images} images for {parts} workers");
        let size = images / parts;
        let mut part = |worker: usize| {
            let images = worker * size..(worker + 1) * size;
            compute(&part_of(batch, images.clone()), images.start)
        };
        let own = parts / self.ranks.count();
        let first = self.ranks.rank() * own;
        let mut joined = subtree(first..first + own, &mut part);
        let (rank, mut distance) = (self.ranks.rank(), 1);
        while distance < self.ranks.count() {
            let partner = rank ^ distance;
            let mut numbers = Numbers::default();
            joined.send(&mut numbers);
            let answer = self.ranks.swap(partner, numbers, false);
            let other = joined.receive(&mut Received(&answer));
            joined = if rank < partner { joined.plus(other) } else { other.plus(joined) };
            distance *= 2;
        }
        joined.times(1.0 / parts as f32)
    }
}

/// Computes on a worker thread, which then takes part in the parallel loops of its layers: a thread outside the
/// pool would go to sleep in each of them.
pub fn on_worker<R: Send>(compute: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| compute())
}

/// Sums over the parts that processes compute.
#[derive(Debug)]
struct Sums(Arc<dyn Ranks>);

impl WholeBatch for Sums {
    fn parts(&self) -> usize {
        self.0.count()
    }

    fn sum(&self, numbers: &mut [f64]) {
        if numbers.is_empty() {
            return;
        }
        let (rank, mut distance) = (self.0.rank(), 1);
        while distance < self.0.count() {
            let own: Numbers = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            let sent = own.len();
            let answer = self.0.swap(rank ^ distance, own, false);
            assert_eq!(answer.len(), sent, "the ranks are not at the same place");
            let mut other = Received(&answer);
            numbers.iter_mut().for_each(|number| *number += other.double());
            distance *= 2;
        }
    }
}

/// The sum over the workers of a range, whose halves are summed first.
fn subtree<T: Joint>(workers: Range<usize>, part: &mut impl FnMut(usize) -> T) -> T {
    if workers.len() == 1 {
        return part(workers.start);
    }
    let middle = workers.start + workers.len() / 2;
    let left = subtree(workers.start..middle, part);
    left.plus(subtree(middle..workers.end, part))
}

/// Some images of a batch.
fn part_of(batch: &Batch, images: Range<usize>) -> Batch {
    let [_, height, width, channels] = batch.shape;
    let size = height * width * channels;
    Batch {
        images: batch.images[images.start * size..images.end * size].to_vec(),
        labels: batch.labels[images.clone()].to_vec(),
        shape: [images.len(), height, width, channels],
    }
}

impl Joint for Tensor<1> {
    fn plus(self, other: Self) -> Self {
        self + other
    }

    fn times(self, factor: f32) -> Self {
        self * factor
    }

    fn send(&self, to: &mut Numbers) {
        to.extend(host(self).iter().flat_map(|number| number.to_le_bytes()));
    }

    fn receive(&self, from: &mut Received<'_>) -> Self {
        let values = from.single(self.dims()[0]);
        let shape = [values.len()];
        Tensor::from_data(TensorData::new(values, shape), &self.device())
    }
}

impl Joint for WeightGradients {
    fn plus(self, other: Self) -> Self {
        let sum = |((id, own), (other, theirs)): ((_, Tensor<1>), _)| {
            assert_eq!(id, other, "all parts have the same weights");
            (id, own.plus(theirs))
        };
        self.into_iter().zip(other).map(sum).collect()
    }

    fn times(self, factor: f32) -> Self {
        self.into_iter().map(|(id, gradient)| (id, gradient.times(factor))).collect()
    }

    fn send(&self, to: &mut Numbers) {
        self.iter().for_each(|(_, gradient)| gradient.send(to));
    }

    fn receive(&self, from: &mut Received<'_>) -> Self {
        self.iter().map(|(id, gradient)| (*id, gradient.receive(from))).collect()
    }
}

/// Gradients for mixing weights, kind by kind, edge by edge.
impl Joint for MixingTables {
    fn plus(mut self, other: Self) -> Self {
        let rows = self.iter_mut().flatten().zip(other.iter().flatten());
        rows.for_each(|(row, other)| row.iter_mut().zip(other).for_each(|(a, b)| *a += b));
        self
    }

    fn times(mut self, factor: f32) -> Self {
        self.iter_mut().flatten().flatten().for_each(|value| *value *= f64::from(factor));
        self
    }

    fn send(&self, to: &mut Numbers) {
        to.extend(self.iter().flatten().flatten().flat_map(|number| number.to_le_bytes()));
    }

    fn receive(&self, from: &mut Received<'_>) -> Self {
        let mut same = self.clone();
        same.iter_mut().flatten().flatten().for_each(|value| *value = from.double());
        same
    }
}

impl<A: Joint, B: Joint> Joint for (A, B) {
    fn plus(self, other: Self) -> Self {
        (self.0.plus(other.0), self.1.plus(other.1))
    }

    fn times(self, factor: f32) -> Self {
        (self.0.times(factor), self.1.times(factor))
    }

    fn send(&self, to: &mut Numbers) {
        self.0.send(to);
        self.1.send(to);
    }

    fn receive(&self, from: &mut Received<'_>) -> Self {
        let first = self.0.receive(from);
        (first, self.1.receive(from))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use burn::tensor::Device;

    use super::*;
    use crate::optimizer::Sgd;
    use crate::pass::DropPath;
    use crate::steps::{Descent, Score, descend};

    /// Ranks in threads.
    #[derive(Debug)]
    struct Threads {
        rank: usize,
        to: Vec<Mutex<Sender<Vec<u8>>>>,
        from: Vec<Mutex<Receiver<Vec<u8>>>>,
    }

    impl Threads {
        fn all(count: usize) -> Vec<Self> {
            let mut from: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
            let mut ranks: Vec<Self> =
                (0..count).map(|rank| Self { rank, to: Vec::new(), from: Vec::new() }).collect();
            for rank in &mut ranks {
                for other in &mut from {
                    let (send, receive) = channel();
                    rank.to.push(Mutex::new(send));
                    other.push(Mutex::new(receive));
                }
            }
            ranks.iter_mut().zip(from).for_each(|(rank, from)| rank.from = from);
            ranks
        }
    }

    impl Ranks for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn count(&self) -> usize {
            self.to.len()
        }

        fn swap(&self, partner: usize, own: Vec<u8>, _: bool) -> Vec<u8> {
            self.to[partner].lock().unwrap_or_else(PoisonError::into_inner).send(own).unwrap();
            self.from[partner].lock().unwrap_or_else(PoisonError::into_inner).recv().unwrap()
        }
    }

    type All = (Score, (WeightGradients, MixingTables));

    /// Numbers whose sum depends on the order.
    fn compute(batch: &Batch, first: usize) -> All {
        let value = |k: usize| (first as f32 + 0.1 + k as f32).powi(3) * 1e-3 + batch.images[0];
        let tensor = |from: usize| {
            let values: Vec<f32> = (from..from + 3).map(value).collect();
            Tensor::from_floats(values.as_slice(), &Device::flex())
        };
        let score =
            Score { loss: f64::from(value(7)), correct: first % 3, images: batch.labels.len() };
        let table = vec![vec![vec![f64::from(value(8)) / 3.0, 1e9], vec![0.1; 2]]];
        (score, (vec![(4, tensor(0)), (9, tensor(3))], table))
    }

    fn numbers(all: &All) -> Numbers {
        let mut numbers = Numbers::default();
        all.send(&mut numbers);
        numbers
    }

    fn batch() -> Batch {
        let images = (0..16 * 4).map(|value| value as f32 * 0.37).collect();
        Batch { images, labels: vec![0; 16], shape: [16, 2, 2, 1] }
    }

    #[test]
    fn the_number_of_processes_does_not_change_a_bit() {
        for workers in [1, 2, 4, 8] {
            let alone = numbers(&Team::new(workers).join(&batch(), compute));
            for count in [1, 2, 4, 8].into_iter().filter(|&count| count <= workers) {
                let ranks = Threads::all(count).into_iter().map(|rank| {
                    std::thread::spawn(move || {
                        let team = Team::of(workers, Arc::new(rank));
                        numbers(&team.join(&batch(), compute))
                    })
                });
                let ranks: Vec<_> = ranks.collect();
                for rank in ranks {
                    assert_eq!(rank.join().unwrap(), alone, "{workers} workers, {count} ranks");
                }
            }
        }
    }

    /// The weights and statistics after five steps of a network with everything that has batch norms, and the losses.
    fn five_steps(team: &Team) -> Vec<f32> {
        let (network, mut parameters, batch) = crate::steps::tests::network();
        let sgd = Sgd { nesterov: true, ..Sgd::default() };
        let mut numbers = Vec::new();
        for step in 0..5 {
            let drop_path = DropPath { probability: 0.2, seed: 1, step, first: 0 };
            let descent = Descent {
                drop_path: Some(drop_path),
                auxiliary_weight: 0.4,
                ..Descent::plain(sgd, 0.05)
            };
            let score = descend(&network, &mut parameters, &[], &batch, &descent, team).unwrap();
            numbers.push(score.read().unwrap().loss as f32);
        }
        numbers.extend(parameters.iter().flat_map(|(_, parameter)| host(&parameter.value)));
        numbers
    }

    #[test]
    fn batch_norms_over_whole_batches_are_those_of_one_process() {
        let alone = five_steps(&Team::new(1));
        let of = |count, whole| {
            let ranks = Threads::all(count).into_iter().map(|rank| {
                std::thread::spawn(move || {
                    // Of a pool that they share, those that wait for each other would take every thread.
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
                    let team = Team::of(count, Arc::new(rank)).with_whole_batches(whole);
                    pool.install(|| five_steps(&team))
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
        };
        let farthest = |found: &[f32]| {
            assert_eq!(found.len(), alone.len());
            let differences = found.iter().zip(&alone).map(|(found, alone)| (found - alone).abs());
            differences.fold(0.0, f32::max)
        };
        for count in [2, 4] {
            let ranks = of(count, true);
            ranks.iter().for_each(|rank| assert_eq!(rank, &ranks[0], "to the bit"));
            let farthest = farthest(&ranks[0]);
            assert!(farthest < 1e-4, "{count} processes: {farthest}");
        }
        let farthest = farthest(&of(2, false)[0]);
        assert!(farthest > 1e-2, "norms of parts differ by {farthest} only");
    }

    #[test]
    fn parts_are_computed_on_threads_of_the_pool() {
        for workers in [1, 4] {
            let mut on_pool = Vec::new();
            Team::new(workers).join(&batch(), |part, first| {
                on_pool.push(rayon::current_thread_index().is_some());
                compute(part, first)
            });
            assert_eq!(on_pool, vec![true; workers]);
        }
    }

    #[test]
    fn what_all_ranks_send_is_gathered_in_their_order() {
        let ranks = Threads::all(4).into_iter().map(|rank| {
            std::thread::spawn(move || {
                let own = vec![rank.rank as u8; rank.rank * 3];
                gather(&rank, own, false)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        let expected: Vec<Vec<u8>> = (0..4).map(|rank| vec![rank as u8; rank * 3]).collect();
        for rank in ranks {
            assert_eq!(rank.join().unwrap(), expected);
        }
        assert_eq!(gather(&Alone, vec![7], false), [vec![7]]);
    }

    #[test]
    fn parts_are_joined_to_means_and_sums() {
        let (score, (weights, tables)) = Team::new(4).join(&batch(), compute);
        let parts: Vec<All> =
            (0..4).map(|k| compute(&part_of(&batch(), 4 * k..4 * k + 4), 4 * k)).collect();
        assert_eq!(score.images, 16);
        assert_eq!(score.correct, parts.iter().map(|part| part.0.correct).sum::<usize>());
        let sum: f64 = parts.iter().map(|part| part.0.loss).sum();
        assert!((score.loss - sum).abs() < 1e-9 * sum.abs());
        let mean: f64 = parts.iter().map(|part| part.1.1[0][0][0]).sum::<f64>() / 4.0;
        assert!((tables[0][0][0] - mean).abs() < 1e-9 * mean.abs());
        assert_eq!(weights.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [4, 9]);
        let of = |all: &All| host(&all.1.0[1].1)[2];
        let mean: f32 = parts.iter().map(of).sum::<f32>() / 4.0;
        assert!((host(&weights[1].1)[2] - mean).abs() < 1e-5 * mean.abs());
    }
}
