//! The inputs that a convolution gathers, and the way of the gradient back to them.

use crate::matrix::{Factor, Matrix};
use crate::simd::Level;
use crate::spec::{Block, Precision};
use crate::window::Taps;

/// The method of gathering the inputs of a pixel.
#[derive(Debug)]
pub(crate) enum Gather {
    Depthwise {
        kernel: usize,
        dilation: usize,
        stride: usize,
        /// `[kernel, kernel, cp]`.
        weights: Vec<f32>,
        /// The data gradient, for each parity of row and column of the input (one class if the stride is 1).
        classes: Vec<Class>,
    },
    /// The mean of the pixels of a 2x2 window of stride 2.
    Average,
    /// Nothing: a pixel is multiplied as it is.
    Pixel,
    /// Nothing: windows of the image are multiplied in place. The data gradient is given for each parity of row and
    /// column of the input, as for a depthwise convolution.
    Windows(Vec<WindowClass>),
}

/// Like [`Class`], for a full convolution: windows of the gradient of the result are multiplied.
#[derive(Debug)]
pub(crate) struct WindowClass {
    pub(crate) first: (usize, usize),
    /// In the gradient of the result.
    pub(crate) taps: Taps,
    /// First channel of the gradient, and their number.
    pub(crate) channels: (usize, usize),
    /// `[taps, channels, pad(cin)]`.
    pub(crate) weights: Factor,
}

/// The classes of a full convolution or a factorized reduce.
pub(crate) fn window_classes(
    level: Level,
    precision: Precision,
    block: &Block,
    matrices: &[Matrix],
    params: &[&[f32]],
) -> Vec<WindowClass> {
    let (sh, sw) = block.stride;
    let parities = (0..sh).flat_map(|top| (0..sw).map(move |left| (top, left)));
    let class = |first: (usize, usize)| {
        // A tap that takes pixel `from` of the input to the result at `to`.
        let through = |matrix: &Matrix| -> Vec<((isize, isize), usize)> {
            let all = matrix.taps.iter().flat_map(|taps| &taps.all).enumerate();
            let mut through: Vec<_> = all
                .filter_map(|(index, (down, right))| {
                    let (y, x) = (first.0 as isize - down, first.1 as isize - right);
                    let (sh, sw) = (sh as isize, sw as isize);
                    (y % sh == 0 && x % sw == 0).then_some(((y / sh, x / sw), index))
                })
                .collect();
            through.sort_unstable();
            through
        };
        // No two matrices of a factorized reduce have taps in one class.
        let matrix = matrices.iter().find(|matrix| !through(matrix).is_empty());
        let matrix = matrix.unwrap_or(&matrices[0]);
        let (through, (channel, count)) = (through(matrix), matrix.columns);
        // Pairs begin at an even channel; the one before the first has no weight.
        let before = match precision {
            Precision::F32 => 0,
            Precision::Bf16 => channel % 2,
        };
        let (params, all) = (params[matrix.part], matrix.rows.1 / block.cin);
        let value = |tap: usize, term: usize, cin: usize| {
            let column = term.checked_sub(before);
            column.map_or(0.0, |column| params[(column * block.cin + cin) * all + through[tap].1])
        };
        let extents = [through.len(), before + count, block.cin];
        WindowClass {
            first,
            weights: Factor::pack(level, precision, extents, value),
            taps: Taps::new(through.iter().map(|(place, _)| *place).collect()),
            channels: (channel - before, before + count),
        }
    };
    parities.map(class).collect()
}

/// The pixels of the input in one class of rows and columns modulo the stride all receive gradient through the same
/// taps, so their data gradient is a depthwise convolution of stride 1 with these taps reversed.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) first: (usize, usize),
    /// Position of the first tap of the first pixel in the gradient of the output, less the border.
    pub(crate) from: (isize, isize),
    /// Distance of the taps there.
    pub(crate) step: usize,
    pub(crate) kernel: (usize, usize),
    pub(crate) weights: Vec<f32>,
}

/// Packs depthwise weights `[c, 1, kernel, kernel]`.
pub(crate) fn depthwise(
    params: &[f32],
    c: usize,
    cp: usize,
    kernel: usize,
    dilation: usize,
    stride: usize,
) -> Gather {
    let pad = dilation * (kernel - 1) / 2;
    let pack = |rows: &[usize], columns: &[usize]| {
        let mut packed = vec![0.0; rows.len() * columns.len() * cp];
        for (tap, (row, column)) in
            rows.iter().flat_map(|r| columns.iter().map(move |c| (r, c))).enumerate()
        {
            for channel in 0..c {
                packed[tap * cp + channel] = params[(channel * kernel + row) * kernel + column];
            }
        }
        packed
    };
    // Taps of one class of rows (or columns), reversed; the first of its pixels; the position of its first tap.
    let line = |class: usize| {
        let taps: Vec<usize> =
            (0..kernel).rev().filter(|tap| tap * dilation % stride == class).collect();
        let first = (class + stride - pad % stride) % stride;
        let from = taps
            .first()
            .map(|tap| ((first + pad) as isize - (tap * dilation) as isize) / stride as isize);
        (taps, first, from)
    };
    let mut classes = Vec::new();
    for (row, column) in (0..stride).flat_map(|row| (0..stride).map(move |column| (row, column))) {
        let ((rows, top, down), (columns, left, right)) = (line(row), line(column));
        if let (Some(down), Some(right)) = (down, right) {
            classes.push(Class {
                first: (top, left),
                from: (down, right),
                step: dilation.div_ceil(stride),
                kernel: (rows.len(), columns.len()),
                weights: pack(&rows, &columns),
            });
        }
    }
    let all: Vec<usize> = (0..kernel).collect();
    Gather::Depthwise { kernel, dilation, stride, weights: pack(&all, &all), classes }
}
