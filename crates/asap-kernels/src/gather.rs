//! How a convolution gathers its inputs, and how the gradient finds its way back to them.

/// How the inputs of a pixel are gathered.
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
    /// Offsets (down, right) of the taps, whose channels are put side by side.
    Copy { taps: Vec<(isize, isize)> },
}

/// The pixels of the input in one class of rows and columns modulo the stride all receive gradient through the same
/// taps, so the data gradient is there a depthwise convolution of stride 1 with these taps reversed.
#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) first: (usize, usize),
    /// Where the first tap of the first pixel lies in the gradient of the output, less the border.
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
    // Taps of one class of rows (or columns), reversed; the first of its pixels; where its first tap lies.
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
