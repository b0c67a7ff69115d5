//! Smaller images at the beginning of a training, which cost less and teach about as much: docs/results/time.md.

use asap_core::NetworkShape;
use asap_data::Loader;
use asap_net::network::Network;

/// The side below which images are not scaled down.
const SMALLEST_SIDE: usize = 12;

/// The first epochs of a training whose images grow: the same network for smaller ones. Its tensors are those of the network that is trained.
pub(super) struct Small {
    pub(super) network: Network,
    pub(super) train: Loader,
    /// The first epoch of images in their own size.
    pub(super) until: usize,
    /// Work of one of its epochs, as a fraction of that of a later one: it goes with the number of pixels.
    pub(super) work: f64,
}

/// Height and width of the images at the beginning, if they are smaller than their own.
pub(super) fn sides(growth: f64, own: &NetworkShape) -> Option<[usize; 2]> {
    let side = own.height.min(own.width) as f64;
    let factor = growth.max(SMALLEST_SIDE as f64 / side).min(1.0);
    let sides = [own.height, own.width].map(|length| (length as f64 * factor).round() as usize);
    (sides != [own.height, own.width]).then_some(sides)
}

/// The smaller images and their network, if this epoch has them.
pub(super) fn at(small: &Option<Small>, epoch: usize) -> Option<&Small> {
    small.as_ref().filter(|small| epoch < small.until)
}

/// Seconds of all `done` small epochs and of one, from those that they took and those of the last of them, as they would be if all epochs of the
/// training took the same time. A small one has a fraction `work` of the work of a later one.
pub(super) fn evened(work: f64, done: usize, seconds: f64, epoch_seconds: f64) -> (f64, f64) {
    let mean = epoch_seconds * (1.0 + 1.0 / work) / 2.0;
    (seconds + (mean - epoch_seconds) * done as f64, mean)
}

#[cfg(test)]
mod tests {
    use asap_core::Stem;

    use super::*;
    use crate::train::time;

    #[test]
    fn images_keep_their_form_and_do_not_get_too_small() {
        let sides_of = |growth, height, width| {
            let shape = NetworkShape {
                channels: 4,
                cells: 1,
                height,
                width,
                in_channels: 3,
                classes: 2,
                stem: Stem::Small,
            };
            sides(growth, &shape)
        };
        assert_eq!(sides_of(0.75, 32, 32), Some([24, 24]));
        assert_eq!(sides_of(0.75, 28, 56), Some([21, 42]));
        assert_eq!(sides_of(0.5, 18, 24), Some([12, 16]));
        for (growth, side) in [(1.0, 32), (0.5, 12), (0.5, 8)] {
            assert_eq!(sides_of(growth, side, side), None, "{growth} of {side}");
        }
    }

    #[test]
    fn the_time_is_kept_although_later_epochs_take_longer() {
        // An epoch of full size takes 10 s; small ones take what was expected, more, or less.
        for taken in [0.56, 0.7, 0.45] {
            let (mut planned, mut until, limit) = (13, 6, 100.0);
            let (mut seconds, mut done) = (0.0, 0);
            while done < planned {
                let epoch = if done < until { 10.0 * taken } else { 10.0 };
                let small = done < until;
                (seconds, done) = (seconds + epoch, done + 1);
                let (even, mean) = match small {
                    true => evened(0.56, done, seconds, epoch),
                    false => (seconds, epoch),
                };
                planned = time::epochs(done, planned, even, mean, limit);
                if small {
                    until = (planned / 2).max(done);
                }
            }
            assert!((90.0..=110.0).contains(&seconds), "{taken}: {done} epochs in {seconds} s");
            assert_eq!(done == 13, taken == 0.56, "the plan stays if the speed does");
        }
    }
}
