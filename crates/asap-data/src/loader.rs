//! Batches of images, shuffled, augmented and normalized ahead of use.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};

use rand::seq::SliceRandom;
use rayon::prelude::*;

use crate::dataset::check_indices;
use crate::random::{Stream, generator};
use crate::{Augment, DataError, Dataset, Normalization};

/// Number of batches prepared ahead.
const PREFETCH: usize = 2;

/// Normalized images with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Images `[n, height, width, channels]`, normalized.
    pub images: Vec<f32>,
    /// Labels `[n]`.
    pub labels: Vec<u16>,
    /// Shape of `images`.
    pub shape: [usize; 4],
}

/// Batches of images, every image once per epoch.
///
/// The order and augmentation of an image depend only on seed, epoch and index: neither the threads nor a start in the
/// middle of an epoch change a byte. The last batch may be smaller, see [`Loader::drop_last`].
#[derive(Clone, Debug)]
pub struct Loader {
    plan: Arc<Plan>,
}

#[derive(Clone, Debug)]
struct Plan {
    data: Arc<Dataset>,
    indices: Vec<usize>,
    batch: usize,
    augment: Augment,
    tables: Vec<[f32; 256]>,
    seed: u64,
    shuffle: bool,
    drop_last: bool,
    /// Which of how many equal parts of a batch is read.
    part: (usize, usize),
}

impl Loader {
    /// A loader of the images `indices` of `data`, `batch` at a time.
    ///
    /// # Errors
    /// No indices or bad ones, a batch size of 0, an augmentation that could erase a whole image, or a normalization of
    /// other channels or with a deviation that is not above 0.
    pub fn new(
        data: Arc<Dataset>,
        indices: Vec<usize>,
        batch: usize,
        augment: Augment,
        normalization: Normalization,
        seed: u64,
        shuffle: bool,
    ) -> Result<Self, DataError> {
        check_indices(&indices, data.len())?;
        if batch == 0 {
            return Err(DataError::argument("batch", "at least 1 image", batch));
        }
        augment.check(data.image_shape())?;
        let Normalization { mean, std } = &normalization;
        let usable =
            mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| s.is_finite() && *s > 0.0);
        if mean.len() != data.channels() || std.len() != data.channels() || !usable {
            let expected =
                format!("{} finite means, and as many deviations above 0", data.channels());
            return Err(DataError::argument(
                "normalization",
                expected,
                format!("{mean:?} and {std:?}"),
            ));
        }
        let tables = normalization.tables();
        let (drop_last, part) = (false, (0, 1));
        let plan = Plan { data, indices, batch, augment, tables, seed, shuffle, drop_last, part };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Drops a last batch that is smaller than the others, or keeps it (the default).
    ///
    /// With shuffling, the dropped images differ from epoch to epoch. An only batch is never dropped.
    pub fn drop_last(self, drop_last: bool) -> Self {
        let plan = Plan { drop_last, ..Arc::unwrap_or_clone(self.plan) };
        Self { plan: Arc::new(plan) }
    }

    /// The same batches, with the images of part `part` of `parts` equal parts only: those that one of several processes computes.
    ///
    /// The others are neither read nor augmented. They are NaN, so that a use of them shows. A batch that cannot be divided is read whole.
    ///
    /// # Panics
    /// If there is no such part.
    pub fn part(&self, part: usize, parts: usize) -> Self {
        assert!(part < parts, "part {part} of {parts}");
        let plan = Plan { part: (part, parts), ..(*self.plan).clone() };
        Self { plan: Arc::new(plan) }
    }

    /// Number of batches in an epoch, at least 1.
    pub fn batches_per_epoch(&self) -> usize {
        self.plan.batches()
    }

    /// Number of images in an epoch, including those of a dropped last batch.
    pub fn images(&self) -> usize {
        self.plan.indices.len()
    }

    /// The batches of one epoch.
    pub fn epoch(&self, epoch: usize) -> EpochIter {
        self.epoch_from(epoch, 0)
    }

    /// The batches of one epoch from `first_batch` on, identical to those of [`Loader::epoch`].
    pub fn epoch_from(&self, epoch: usize, first_batch: usize) -> EpochIter {
        self.epoch_by(epoch, first_batch, 1)
    }

    /// One batch in every `step` of an epoch, from `first_batch` on.
    ///
    /// # Panics
    /// If `step` is 0.
    pub fn epoch_by(&self, epoch: usize, first_batch: usize, step: usize) -> EpochIter {
        EpochIter::new(self.plan.clone(), epoch, first_batch, step)
    }
}

impl Plan {
    fn batches(&self) -> usize {
        let images = self.indices.len();
        let count = if self.drop_last { images / self.batch } else { images.div_ceil(self.batch) };
        count.max(1)
    }

    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order = self.indices.clone();
        if self.shuffle {
            order.shuffle(&mut generator(self.seed, Stream::Shuffle, epoch as u64, 0));
        }
        order
    }

    /// The images of a batch of so many that are read.
    fn own(&self, images: usize) -> Range<usize> {
        let (part, parts) = self.part;
        if images.is_multiple_of(parts) {
            part * images / parts..(part + 1) * images / parts
        } else {
            0..images
        }
    }

    fn prepare(&self, order: &[usize], epoch: usize, batch: usize) -> Result<Batch, DataError> {
        let start = batch * self.batch;
        let members = &order[start..order.len().min(start + self.batch)];
        let shape @ [height, width, channels] = self.data.image_shape();
        let size = height * width * channels;
        let own = self.own(members.len());
        let mut images = vec![f32::NAN; members.len() * size];
        let write = |(&index, out): (&usize, &mut [f32])| {
            let mut random = generator(self.seed, Stream::Augment, epoch as u64, index as u64);
            let image = self.data.image(index)?;
            self.augment.apply(&image, shape, &self.tables, &mut random, out);
            Ok(())
        };
        let read = &mut images[own.start * size..own.end * size];
        if self.data.is_in_memory() {
            members[own].iter().zip(read.chunks_exact_mut(size)).try_for_each(write)?;
        } else {
            // Decoding an image takes much longer than augmenting it.
            members[own].par_iter().zip(read.par_chunks_exact_mut(size)).try_for_each(write)?;
        }
        let labels = members.iter().map(|&i| self.data.labels()[i]).collect();
        Ok(Batch { images, labels, shape: [members.len(), height, width, channels] })
    }
}

/// The batches of one epoch, prepared by a thread of its own; dropping it stops the thread.
///
/// A batch is an error if one of its images cannot be read, which does not happen to images in memory; it is the last one then.
#[derive(Debug)]
pub struct EpochIter {
    remaining: usize,
    receiver: Option<Receiver<Result<Batch, DataError>>>,
    worker: Option<JoinHandle<()>>,
}

impl EpochIter {
    fn new(plan: Arc<Plan>, epoch: usize, first_batch: usize, step: usize) -> Self {
        let batches = (first_batch..plan.batches()).step_by(step);
        let remaining = batches.len();
        let (sender, receiver) = sync_channel(PREFETCH);
        let worker = thread::spawn(move || {
            let order = plan.order(epoch);
            for batch in batches {
                let batch = plan.prepare(&order, epoch, batch);
                let failed = batch.is_err();
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        Self { remaining, receiver: Some(receiver), worker: Some(worker) }
    }
}

impl Iterator for EpochIter {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        match self.receiver.as_ref()?.recv() {
            Ok(batch) => {
                if batch.is_err() {
                    self.remaining = 0;
                }
                Some(batch)
            }
            // The worker stops early only by a panic, which continues here.
            Err(_) => match self.worker.take()?.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => None,
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for EpochIter {}

impl Drop for EpochIter {
    fn drop(&mut self) {
        // Without a receiver a worker that waits to send wakes up and ends.
        self.receiver = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageSource, normalization};
    use std::borrow::Cow;
    use std::time::{Duration, Instant};

    const ALL: Augment = Augment { pad: 1, flip: true, cutout: Some(2), ..Augment::none() };

    /// Images whose first byte is their index.
    fn data(n: usize) -> Arc<Dataset> {
        let images = (0..n).flat_map(|i| (0..12).map(move |j| (i + 50 * j) as u8)).collect();
        let labels = (0..n).map(|i| (i % 3) as u16).collect();
        Arc::new(
            Dataset::new(images, labels, [2, 2, 3], ["a", "b", "c"].map(String::from).to_vec())
                .unwrap(),
        )
    }

    fn loader(n: usize, batch: usize, augment: Augment, seed: u64, shuffle: bool) -> Loader {
        let data = data(n);
        let normal = normalization(&data).unwrap();
        Loader::new(data, (0..n).collect(), batch, augment, normal, seed, shuffle).unwrap()
    }

    /// The batches of an epoch.
    fn batches(loader: &Loader, epoch: usize) -> Vec<Batch> {
        loader.epoch(epoch).map(Result::unwrap).collect()
    }

    /// The images of an epoch without augmentation, by their first byte.
    fn indices(loader: &Loader, epoch: usize) -> Vec<usize> {
        let table = loader.plan.tables[0];
        let index = |image: &[f32]| table.iter().position(|v| *v == image[0]).unwrap();
        batches(loader, epoch)
            .into_iter()
            .flat_map(|b| b.images.chunks_exact(12).map(index).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn every_image_once_per_epoch_with_its_label() {
        let loader = loader(20, 6, Augment::none(), 5, true);
        let sizes: Vec<usize> = batches(&loader, 0).iter().map(|b| b.shape[0]).collect();
        assert_eq!((sizes, loader.batches_per_epoch(), loader.images()), (vec![6, 6, 6, 2], 4, 20));
        let order = indices(&loader, 0);
        let labels: Vec<u16> = batches(&loader, 0).into_iter().flat_map(|b| b.labels).collect();
        assert_eq!(labels, order.iter().map(|i| (i % 3) as u16).collect::<Vec<_>>());
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..20).collect::<Vec<_>>());
        assert_ne!(order, sorted, "shuffled");
        assert_ne!(order, indices(&loader, 1), "every epoch in another order");
        assert_ne!(
            order,
            indices(&self::loader(20, 6, Augment::none(), 6, true), 0),
            "every seed in another order"
        );
    }

    #[test]
    fn without_shuffling_the_order_stays() {
        let data = data(5);
        let normal = normalization(&data).unwrap();
        let loader =
            Loader::new(data.clone(), vec![4, 0, 2], 2, Augment::none(), normal.clone(), 0, false)
                .unwrap();
        assert_eq!(indices(&loader, 3), [4, 0, 2]);
        let first = loader.epoch(0).next().unwrap().unwrap();
        assert_eq!(first.shape, [2, 2, 2, 3]);
        assert_eq!(
            first.images,
            [normal.apply(&data.image(4).unwrap()), normal.apply(&data.image(0).unwrap())].concat()
        );
    }

    #[test]
    fn last_batch_is_kept_or_dropped() {
        let sizes = |n, drop| {
            let loader = loader(n, 4, Augment::none(), 0, true).drop_last(drop);
            let sizes: Vec<usize> = batches(&loader, 0).iter().map(|b| b.shape[0]).collect();
            assert_eq!(sizes.len(), loader.batches_per_epoch());
            sizes
        };
        assert_eq!((sizes(10, false), sizes(10, true)), (vec![4, 4, 2], vec![4, 4]));
        assert_eq!((sizes(8, false), sizes(8, true)), (vec![4, 4], vec![4, 4]));
        assert_eq!((sizes(3, false), sizes(3, true)), (vec![3], vec![3]));
    }

    #[test]
    fn the_thread_and_the_start_change_nothing() {
        let loader = loader(23, 5, ALL, 11, true);
        let all = batches(&loader, 7);
        let order = loader.plan.order(7);
        let here: Vec<Batch> = (0..5).map(|b| loader.plan.prepare(&order, 7, b).unwrap()).collect();
        assert_eq!(all, here);
        for first in 0..=6 {
            let rest = loader.epoch_from(7, first);
            assert_eq!(rest.len(), 5usize.saturating_sub(first));
            assert_eq!(rest.map(Result::unwrap).collect::<Vec<_>>(), all[first.min(5)..]);
        }
        let (first, second) = (loader.epoch(7), loader.epoch(7));
        let two = first.map(Result::unwrap).zip(second.map(Result::unwrap));
        assert!(two.zip(&all).all(|((a, b), c)| a == *c && b == *c), "two epochs at a time");
        assert_ne!(all, batches(&loader, 8));
    }

    #[test]
    fn parts_make_up_the_batches_and_hold_nothing_else() {
        let loader = loader(22, 4, ALL, 11, true);
        for (k, batch) in batches(&loader, 3).iter().enumerate() {
            let parts: Vec<Batch> =
                (0..4).map(|p| batches(&loader.part(p, 4), 3).swap_remove(k)).collect();
            for (p, part) in parts.iter().enumerate() {
                assert_eq!((&part.labels, part.shape), (&batch.labels, batch.shape));
                for (i, (found, expected)) in
                    part.images.chunks(12).zip(batch.images.chunks(12)).enumerate()
                {
                    // The last batch, of 2 images, has no four parts.
                    if i == p || k == 5 {
                        assert_eq!(found, expected, "batch {k}, part {p}, image {i}");
                    } else {
                        assert!(found.iter().all(|v| v.is_nan()), "batch {k}, part {p}, image {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_epoch_by_steps_has_every_other_batch() {
        let loader = loader(23, 5, ALL, 11, true);
        let all = batches(&loader, 2);
        for (first, expected) in [(0, vec![0, 2, 4]), (1, vec![1, 3]), (5, vec![])] {
            let some = loader.epoch_by(2, first, 2);
            assert_eq!(some.len(), expected.len());
            assert!(some.zip(&expected).all(|(batch, &k)| batch.unwrap() == all[k]));
        }
    }

    /// The augmentation of an image does not depend on the batch that it is in.
    #[test]
    fn augmentation_belongs_to_the_image() {
        let images = |batch| {
            let all = batches(&loader(12, batch, ALL, 3, true), 2);
            all.into_iter().flat_map(|b| b.images).collect::<Vec<_>>()
        };
        assert_eq!(images(5), images(12));
    }

    /// The images of [`data`], read one by one; image `broken` cannot be read.
    #[derive(Debug)]
    struct OneByOne {
        data: Arc<Dataset>,
        broken: Option<usize>,
    }

    impl ImageSource for OneByOne {
        fn count(&self) -> usize {
            self.data.len()
        }

        fn shape(&self) -> [usize; 3] {
            self.data.image_shape()
        }

        fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
            if self.broken == Some(index) {
                return Err(DataError::argument("image", "a good one", index));
            }
            self.data.image(index)
        }
    }

    /// The first 20 of 23 images, of another size, in the order of `seed`.
    fn elsewhere(in_memory: bool, broken: Option<usize>, seed: u64) -> Loader {
        let data = data(23);
        let classes = data.classes().to_vec();
        let source = Arc::new(OneByOne { data: data.clone(), broken });
        let from_source = Dataset::from_source(source, data.labels().to_vec(), classes).unwrap();
        let data = if in_memory { (*data).clone() } else { from_source };
        let chosen: Vec<usize> = (0..20).collect();
        let data = data.subset(&chosen).unwrap().with_image_shape([3, 4, 3]).unwrap();
        let data = Arc::new(data.with_image_shape([3, 4, 1]).unwrap());
        let normal = normalization(&data).unwrap();
        Loader::new(data, chosen, 6, ALL, normal, seed, true).unwrap()
    }

    #[test]
    fn images_from_a_source_give_the_same_bytes_as_from_memory() {
        for epoch in 0..3 {
            let found = batches(&elsewhere(false, None, 5), epoch);
            assert_eq!(found, batches(&elsewhere(true, None, 5), epoch));
        }
        assert_ne!(batches(&elsewhere(false, None, 5), 0), batches(&elsewhere(false, None, 6), 0));
    }

    #[test]
    fn an_image_that_cannot_be_read_ends_the_epoch_with_its_error() {
        let mut loader = elsewhere(false, None, 5);
        let good = batches(&loader, 1);
        let bad = loader.plan.order(1)[14];
        let data = Arc::new(OneByOne { data: data(23), broken: Some(bad) });
        let labels = data.data.labels().to_vec();
        let classes = data.data.classes().to_vec();
        let data = Dataset::from_source(data, labels, classes).unwrap();
        let data = data.with_image_shape([3, 4, 3]).unwrap().with_image_shape([3, 4, 1]).unwrap();
        let plan = Plan { data: Arc::new(data), ..Arc::unwrap_or_clone(loader.plan) };
        loader.plan = Arc::new(plan);
        let found: Vec<_> = loader.epoch(1).collect();
        assert_eq!(found.len(), 3, "two batches and the error");
        assert_eq!([found[0].as_ref().unwrap(), found[1].as_ref().unwrap()], [&good[0], &good[1]]);
        assert!(found[2].as_ref().unwrap_err().to_string().contains("a good one"));
    }

    #[test]
    fn dropping_early_ends_the_thread() {
        let start = Instant::now();
        let loader = loader(200, 1, ALL, 0, true);
        for taken in [0, 1, 5] {
            let mut epoch = loader.epoch(0);
            assert_eq!(epoch.by_ref().take(taken).count(), taken);
            drop(epoch);
            assert_eq!(Arc::strong_count(&loader.plan), 1, "the thread has let go of the plan");
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_panic_of_the_thread_reaches_the_caller() {
        let mut broken = Arc::unwrap_or_clone(loader(4, 2, ALL, 0, true).plan);
        broken.indices = vec![1000];
        let mut epoch = Loader { plan: Arc::new(broken) }.epoch(0);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| epoch.next())).is_err());
    }

    #[test]
    fn refuses_bad_arguments() {
        let refusal = |indices, batch, augment, normal| {
            Loader::new(data(5), indices, batch, augment, normal, 0, true).unwrap_err().to_string()
        };
        let normal = || normalization(&data(5)).unwrap();
        assert!(refusal(vec![], 1, ALL, normal()).contains("at least one image"));
        assert!(refusal(vec![5], 1, ALL, normal()).contains("indices below 5, found 5"));
        assert!(refusal(vec![0], 0, ALL, normal()).contains("batch: expected at least 1"));
        assert!(refusal(vec![0], 1, Augment { pad: 2, ..ALL }, normal()).contains("augment.pad"));
        let grey = Normalization { mean: vec![0.0], std: vec![1.0] };
        assert!(refusal(vec![0], 1, ALL, grey).contains("3 finite means"));
        let flat = Normalization { mean: vec![0.0; 3], std: vec![1.0, 0.0, 1.0] };
        assert!(refusal(vec![0], 1, ALL, flat).contains("deviations above 0"));
    }

    /// The promise that a seed gives the same bytes in later versions, too.
    #[test]
    fn golden_order_and_images() {
        let loader = loader(6, 6, ALL, 2026, true);
        assert_eq!(loader.plan.order(1), GOLDEN_ORDER);
        let batch = loader.epoch(1).next().unwrap().unwrap();
        let sum =
            batch.images.iter().zip(1u32..).map(|(v, i)| f64::from(*v) * f64::from(i)).sum::<f64>();
        assert!((sum - GOLDEN_SUM).abs() < 1e-3, "{sum}");
    }

    const GOLDEN_ORDER: [usize; 6] = [1, 2, 3, 4, 0, 5];
    const GOLDEN_SUM: f64 = -833.196;
}
