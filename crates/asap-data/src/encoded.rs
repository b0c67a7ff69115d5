//! Encoded images of every part of a data set, decoded into one size: at once if they fit, or whenever one is needed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use rand::RngExt;
use rayon::prelude::*;

use crate::dataset::check_no_class_empty;
use crate::error::FORMATS;
use crate::picture::{Encoded, FEW_BITS, Header, MADE_GREY, Picture, header, picture};
use crate::pixels::buffer;
use crate::random::{Stream, fnv1a, generator};
use crate::text::counted;
use crate::{DataError, Dataset, ImageSource, LoadOptions, Splits};

/// Longest side of images if no size is given.
const MAX_DEFAULT_SIDE: usize = 64;

/// Shortest side, if no size is given.
const MIN_DEFAULT_SIDE: usize = 8;

/// An image is odd if a side is shorter or longer than that of most by this factor.
const ODD: usize = 4;

/// Images that are decoded for what is to be told of them, if they are not all decoded at once.
const SAMPLE: usize = 200;

/// Number of files named in a warning.
const NAMED: usize = 3;

/// Encoded images in parts, with what was noticed while they were listed.
pub(crate) struct Images {
    pub(crate) classes: Vec<String>,
    pub(crate) train: Part,
    pub(crate) valid: Option<Part>,
    pub(crate) test: Option<Part>,
    pub(crate) warnings: Vec<String>,
    /// What to do if a class has no training images.
    pub(crate) if_empty: &'static str,
}

impl Images {
    /// Decodes the images, all in one size; in colour if any of them is.
    ///
    /// Headers and pixels are read in two passes, so that limit and size are known before memory is allocated.
    pub(crate) fn read(self, root: &Path, options: &LoadOptions) -> Result<Splits, DataError> {
        let Self { classes, mut train, mut valid, mut test, mut warnings, if_empty } = self;
        warnings.extend(alike(&classes));
        for part in [Some(&mut train), valid.as_mut(), test.as_mut()].into_iter().flatten() {
            part.limit(classes.len(), options);
            part.read_headers(options.skip_corrupt)?;
        }
        let parts = || [Some(&train), valid.as_ref(), test.as_ref()].into_iter().flatten();
        let all = || parts().flat_map(|part| &part.headers);
        let found = if all().all(|header| header.grey) { 1 } else { 3 };
        let channels = options.channels.unwrap_or(found);
        let (height, width) = options.size.unwrap_or_else(|| common_size(&train.headers));
        let other = |header: &&Header| (header.height, header.width) != (height, width);
        let resized = all().filter(other).count();
        if resized > 0 && options.size.is_none() {
            warnings.push(format!(
                "resized {resized} images to {height}x{width}, the size of most, with sides of up to {MAX_DEFAULT_SIDE}; \
                 a picture of another shape is stretched; --set data.size=N chooses another size"
            ));
            warnings.extend(odd_sizes(&parts().collect::<Vec<_>>()));
        }
        let coloured = all().filter(|header| !header.grey).count();
        if channels == 1 && coloured > 0 {
            warnings.push(format!("{coloured} {MADE_GREY}"));
        }
        let shape = [height, width, channels];
        let bytes = parts().map(|part| part.files.len() as u64).sum::<u64>()
            * shape.iter().map(|&side| side as u64).product::<u64>();
        let cache = options.memory.filter(|&memory| memory < bytes);
        let cache = cache.map(|memory| Arc::new(AtomicU64::new(memory)));
        if options.memory > Some(0) && cache.is_some() {
            warnings.push(format!(
                "the images take {:.1} GiB in memory, more than they may: they are read again in every epoch (slower, with the same \
                 result); `asap data convert` packs them into one file that is read faster",
                bytes as f64 / f64::from(1 << 30)
            ));
        }
        let mut unreadable = Vec::new();
        let mut pixels = |part: Part| {
            let (data, skipped) = match &cache {
                Some(cache) => part.leave(shape, &classes, options, cache.clone(), &mut warnings),
                None => part.read_pixels(shape, &classes, options, &mut warnings),
            }?;
            unreadable.extend(skipped.iter().map(ToString::to_string));
            Ok::<_, DataError>(data)
        };
        let train_data = pixels(train)?;
        let valid = valid.map(&mut pixels).transpose()?;
        let test = test.map(&mut pixels).transpose()?;
        if options.limit.is_none() {
            check_no_class_empty(root, train_data.labels(), &classes, if_empty)?;
        }
        let name = root.display().to_string();
        Ok(Splits { name, train: train_data, valid, test, warnings, unreadable })
    }
}

/// A warning that names two classes which may be one: their names differ in case, or are one number.
fn alike(classes: &[String]) -> Option<String> {
    let mut seen = BTreeMap::new();
    classes.iter().find_map(|class| {
        let plain = match class.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => number.to_string(),
            _ => class.trim().to_lowercase(),
        };
        let other = seen.insert(plain, class)?;
        Some(format!(
            "the classes `{other}` and `{class}` are told apart: write their names alike if they are one"
        ))
    })
}

/// The height and width that half of the images have or, if there are none, their medians; within the default limits.
fn common_size(headers: &[Header]) -> (usize, usize) {
    let mut counts = BTreeMap::new();
    for header in headers {
        *counts.entry((header.height, header.width)).or_insert(0) += 1;
    }
    let common = counts.into_iter().find(|&(_, count)| 2 * count >= headers.len());
    let (height, width) = common.map_or_else(|| median_size(headers), |(size, _)| size);
    let longest = height.max(width);
    let shrink = |side: usize| (side * MAX_DEFAULT_SIDE).div_ceil(longest);
    match longest {
        0..=MAX_DEFAULT_SIDE => (height, width),
        _ => (shrink(height).max(MIN_DEFAULT_SIDE), shrink(width).max(MIN_DEFAULT_SIDE)),
    }
}

fn median_size(headers: &[Header]) -> (usize, usize) {
    let median = |side: fn(&Header) -> usize| {
        let mut sides: Vec<usize> = headers.iter().map(side).collect();
        sides.sort_unstable();
        sides.get(sides.len() / 2).map_or(MIN_DEFAULT_SIDE, |&side| side.max(MIN_DEFAULT_SIDE))
    };
    (median(|header| header.height), median(|header| header.width))
}

/// A warning that names the images whose sides are very different from those of most.
fn odd_sizes(parts: &[&Part]) -> Option<String> {
    let all = || parts.iter().flat_map(|part| part.files.iter().zip(&part.headers));
    let headers: Vec<Header> = all().map(|(_, header)| *header).collect();
    let usual = median_size(&headers);
    let far = |side: usize, usual: usize| side * ODD < usual || side > usual * ODD;
    let odd = |header: &Header| far(header.height, usual.0) || far(header.width, usual.1);
    let mut named = all().filter(|(_, header)| odd(header));
    let first: Vec<String> = (named.by_ref().take(NAMED))
        .map(|((file, _), header)| {
            format!("{} ({}x{})", file.path.display(), header.height, header.width)
        })
        .collect();
    let more = match named.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!first.is_empty()).then(|| {
        format!("unusually small, large, long or narrow images: {}{more}", first.join(", "))
    })
}

/// Encoded images with their labels.
#[derive(Debug)]
pub(crate) struct Part {
    /// The folder or file that they are in, for messages.
    place: PathBuf,
    files: Vec<(Encoded, u16)>,
    headers: Vec<Header>,
    skipped: Vec<DataError>,
}

impl Part {
    pub(crate) fn new(place: &Path, files: Vec<(Encoded, u16)>) -> Self {
        Self { place: place.to_owned(), files, headers: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(crate) fn labels(&self) -> Vec<u16> {
        self.files.iter().map(|(_, label)| *label).collect()
    }

    /// Splits into a training and a test part. A number drawn for the class and the name of a file (with its folders inside that of
    /// the class, or as in the list) decides on which side it is, so that files that are added or removed move no other one, except
    /// in classes of one or two images: every class keeps an image to train on, and one image is tested.
    pub(crate) fn divide(self, classes: &[String], options: &LoadOptions) -> (Self, Option<Self>) {
        let of_list = self.place.parent().filter(|_| self.place.is_file());
        let draw = |(file, label): &(Encoded, u16)| -> f64 {
            let class = &classes[usize::from(*label)];
            let of_class = self.place.join(class);
            let inside = of_list.unwrap_or(&of_class);
            let name = file.path.strip_prefix(inside).ok().map(Path::as_os_str);
            let name = name.or(file.path.file_name()).unwrap_or_default().as_encoded_bytes();
            let name = [class.as_bytes(), b"/", name].concat();
            generator(options.seed, Stream::Split, fnv1a(&name), u64::MAX).random()
        };
        let draws: Vec<f64> = self.files.iter().map(draw).collect();
        let mut tested: Vec<bool> =
            draws.iter().map(|&drawn| drawn < options.test_fraction).collect();
        let mut of_class = vec![Vec::new(); classes.len()];
        for (index, (_, label)) in self.files.iter().enumerate() {
            of_class[usize::from(*label)].push(index);
        }
        let by_draw = |a: &&usize, b: &&usize| draws[**a].total_cmp(&draws[**b]);
        for members in &of_class {
            if let Some(&last) = members.iter().max_by(by_draw) {
                tested[last] = false;
            }
        }
        if options.test_fraction > 0.0 && !tested.contains(&true) {
            // Few images, none of which was drawn.
            let spare = of_class.iter().filter(|members| members.len() > 1).flatten();
            if let Some(&first) = spare.min_by(by_draw) {
                tested[first] = true;
            }
        }
        let pick = |part: bool| {
            let files = self.files.iter().zip(&tested).filter(|&(_, &tested)| tested == part);
            Self::new(&self.place, files.map(|(file, _)| file.clone()).collect())
        };
        (pick(false), Some(pick(true)).filter(|test| !test.files.is_empty()))
    }

    fn limit(&mut self, classes: usize, options: &LoadOptions) {
        if let Some(chosen) = options.choose(&self.labels(), classes) {
            self.files = chosen.into_iter().map(|i| self.files[i].clone()).collect();
        }
    }

    fn read_headers(&mut self, skip_corrupt: bool) -> Result<(), DataError> {
        let headers: Vec<_> = self.files.par_iter().map(|(file, _)| header(file)).collect();
        let kept = self.keep(headers, skip_corrupt)?;
        self.headers = kept.into_iter().map(|(_, header)| header).collect();
        Ok(())
    }

    fn read_pixels(
        mut self,
        shape: [usize; 3],
        classes: &[String],
        options: &LoadOptions,
        warnings: &mut Vec<String>,
    ) -> Result<(Dataset, Vec<DataError>), DataError> {
        let size = shape.iter().product::<usize>();
        let mut images = buffer(self.files.len(), shape)?;
        let decode = |(out, (file, _)): (&mut [u8], &(Encoded, u16))| {
            let decoded = picture(file, shape)?;
            out.copy_from_slice(&decoded.bytes);
            Ok(Picture { bytes: Vec::new(), ..decoded })
        };
        let results: Vec<_> =
            images.par_chunks_exact_mut(size).zip(&self.files).map(decode).collect();
        let kept = self.keep(results, options.skip_corrupt)?;
        for (to, (from, _)) in kept.iter().enumerate() {
            images.copy_within(from * size..(from + 1) * size, to * size);
        }
        images.truncate(self.files.len() * size);
        note_pictures(kept.iter().map(|(_, picture)| picture), "", warnings);
        self.finish(warnings)?;
        let data = Dataset::new(images, self.labels(), shape, classes.to_vec())?;
        Ok((data.with_names(self.names()), self.skipped))
    }

    /// The images as a source that decodes one when it is needed. All are decoded once before if unreadable ones are to be skipped, or if
    /// none is to stay in memory, as for a file that is made of them: what it loses must be told.
    fn leave(
        mut self,
        shape: [usize; 3],
        classes: &[String],
        options: &LoadOptions,
        cache: Arc<AtomicU64>,
        warnings: &mut Vec<String>,
    ) -> Result<(Dataset, Vec<DataError>), DataError> {
        if options.skip_corrupt || options.memory == Some(0) {
            let decode = |(file, _): &(Encoded, u16)| {
                Ok(Picture { bytes: Vec::new(), ..picture(file, shape)? })
            };
            let results: Vec<_> = self.files.par_iter().map(decode).collect();
            let kept = self.keep(results, options.skip_corrupt)?;
            note_pictures(kept.iter().map(|(_, picture)| picture), "", warnings);
        } else {
            // What cannot be read is an error where it is needed.
            let some = self.files.par_iter().step_by(self.files.len().div_ceil(SAMPLE).max(1));
            let sample: Vec<Picture> =
                some.filter_map(|(file, _)| picture(file, shape).ok()).collect();
            let of = format!(" of {} sampled", sample.len());
            note_pictures(sample.iter(), &of, warnings);
        }
        self.finish(warnings)?;
        let (labels, names) = (self.labels(), self.names());
        let files: Vec<Encoded> = self.files.into_iter().map(|(file, _)| file).collect();
        let decoded = files.iter().map(|_| OnceLock::new()).collect();
        let source = Files { files, shape, decoded, left: cache };
        let data = Dataset::from_source(Arc::new(source), labels, classes.to_vec())?;
        Ok((data.with_names(names), self.skipped))
    }

    /// Refuses a part in which nothing is left, and notes what was skipped.
    fn finish(&mut self, warnings: &mut Vec<String>) -> Result<(), DataError> {
        if !self.skipped.is_empty() {
            let (count, place) = (self.skipped.len(), self.place.display());
            let named: Vec<_> = self.skipped.iter().take(NAMED).map(ToString::to_string).collect();
            let which = if count > NAMED { format!("the first {NAMED}: ") } else { String::new() };
            warnings.push(format!(
                "skipped {count} unreadable image files in {place}: {which}{}",
                named.join("; ")
            ));
        }
        if self.files.is_empty() {
            let found = format!("none, and {} unreadable files", self.skipped.len());
            let expected = format!("{FORMATS} images");
            return Err(DataError::format(&self.place, expected, found, "add images"));
        }
        Ok(())
    }

    fn names(&self) -> Vec<String> {
        self.files.iter().map(|(file, _)| file.path.display().to_string()).collect()
    }

    /// Drops the files with a broken image, or fails with the first error that cannot be skipped. Returns the other
    /// results with their former positions.
    fn keep<T>(
        &mut self,
        results: Vec<Result<T, DataError>>,
        skip_corrupt: bool,
    ) -> Result<Vec<(usize, T)>, DataError> {
        let mut kept = Vec::with_capacity(results.len());
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => kept.push((index, value)),
                Err(error @ (DataError::Image { .. } | DataError::Io { .. })) if skip_corrupt => {
                    self.skipped.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        self.files = kept.iter().map(|(index, _)| self.files[*index].clone()).collect();
        Ok(kept)
    }
}

/// Warnings about images that are transparent, and about those that lose nearly all in 8 bits; `of` says which they are some of.
fn note_pictures<'a>(
    pictures: impl Iterator<Item = &'a Picture>,
    of: &str,
    warnings: &mut Vec<String>,
) {
    let (mut transparent, mut deep) = (0, Vec::new());
    for picture in pictures {
        transparent += usize::from(picture.transparent);
        deep.extend(picture.bits);
    }
    let dark: Vec<u32> = deep.iter().copied().filter(|&bits| bits <= FEW_BITS).collect();
    if transparent > 0 {
        warnings.push(format!(
            "transparent in places, and laid on white: {}{of}",
            counted(transparent, "image")
        ));
    }
    // If most are not, the others may simply be dark pictures.
    if let Some(most) = dark.iter().max().filter(|_| 2 * dark.len() > deep.len()) {
        warnings.push(format!(
            "16 bits per channel of which at most {most} are used, nearly black after conversion to 8: {}{of}; scale their values to \
             the whole range first",
            counted(dark.len(), "image")
        ));
    }
}

/// Encoded images that are decoded when they are needed. The first ones that fit stay in memory: an epoch needs each once, so that none
/// is worth more than another.
#[derive(Debug)]
struct Files {
    files: Vec<Encoded>,
    shape: [usize; 3],
    decoded: Vec<OnceLock<Box<[u8]>>>,
    /// Bytes left for images that stay.
    left: Arc<AtomicU64>,
}

impl ImageSource for Files {
    fn count(&self) -> usize {
        self.files.len()
    }

    fn shape(&self) -> [usize; 3] {
        self.shape
    }

    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        if let Some(image) = self.decoded[index].get() {
            return Ok(Cow::Borrowed(image));
        }
        let image = picture(&self.files[index], self.shape)?.bytes;
        let size = image.len() as u64;
        let take = |left: u64| left.checked_sub(size);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Ok(Cow::Owned(image));
        }
        Ok(Cow::Borrowed(self.decoded[index].get_or_init(|| image.into())))
    }
}
