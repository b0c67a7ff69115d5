//! The operations that join edges to networks: concatenation of the nodes of a cell and the global average pool.

use rayon::prelude::*;

use crate::error::{KernelError, Result};

/// Pixels that a task copies.
const PIXELS: usize = 256;

/// Concatenates tensors of `c` channels per pixel: `parts[i] [pixels, c]` to `out [pixels, parts * c]`.
///
/// # Errors
/// If a length does not fit.
pub fn concat(parts: &[&[f32]], c: usize, out: &mut [f32]) -> Result<()> {
    let width = parts.len() * c;
    let pixels = pixels(c, parts.first().map_or(0, |part| part.len()));
    for (i, part) in parts.iter().enumerate() {
        KernelError::check_len(
            || format!("part {i} of the concatenation"),
            &[pixels, c],
            part.len(),
        )?;
    }
    KernelError::check_len(|| "concatenation".into(), &[pixels, width], out.len())?;
    if width == 0 {
        return Ok(());
    }
    out.par_chunks_mut(PIXELS * width).enumerate().for_each(|(task, out)| {
        for (pixel, out) in out.chunks_exact_mut(width).enumerate() {
            let at = (task * PIXELS + pixel) * c;
            for (part, out) in parts.iter().zip(out.chunks_exact_mut(c)) {
                out.copy_from_slice(&part[at..at + c]);
            }
        }
    });
    Ok(())
}

/// The backward pass of [`concat()`]: channels `i * c..` of `grad [pixels, parts * c]`, the gradient of part `i`, to
/// `parts[i] [pixels, c]`.
///
/// # Errors
/// If a length does not fit.
pub fn concat_backward(grad: &[f32], c: usize, parts: &mut [Vec<f32>]) -> Result<()> {
    let width = parts.len() * c;
    let pixels = pixels(c, parts.first().map_or(0, Vec::len));
    for (i, part) in parts.iter().enumerate() {
        KernelError::check_len(|| format!("gradient of part {i}"), &[pixels, c], part.len())?;
    }
    KernelError::check_len(
        || "gradient of the concatenation".into(),
        &[pixels, width],
        grad.len(),
    )?;
    if width == 0 {
        return Ok(());
    }
    let mut tasks: Vec<Vec<&mut [f32]>> =
        (0..pixels.div_ceil(PIXELS)).map(|_| Vec::with_capacity(parts.len())).collect();
    for part in parts {
        tasks.iter_mut().zip(part.chunks_mut(PIXELS * c)).for_each(|(task, part)| task.push(part));
    }
    grad.par_chunks(PIXELS * width).zip(tasks).for_each(|(grad, mut parts)| {
        for (pixel, grad) in grad.chunks_exact(width).enumerate() {
            for (part, grad) in parts.iter_mut().zip(grad.chunks_exact(c)) {
                part[pixel * c..][..c].copy_from_slice(grad);
            }
        }
    });
    Ok(())
}

fn pixels(c: usize, len: usize) -> usize {
    len.checked_div(c).unwrap_or(0)
}

/// Global average pool: the mean over the pixels, `x [n, pixels, c]` to `out [n, c]`.
///
/// # Errors
/// If a length does not fit, or there are no pixels.
pub fn global_average_pool(
    x: &[f32],
    n: usize,
    pixels: usize,
    c: usize,
    out: &mut [f32],
) -> Result<()> {
    check_pool(x.len(), n, pixels, c, out.len())?;
    out.par_chunks_mut(c).zip(x.par_chunks(pixels * c)).for_each(|(out, x)| {
        out.fill(0.0);
        for pixel in x.chunks_exact(c) {
            out.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += v);
        }
        out.iter_mut().for_each(|sum| *sum /= pixels as f32);
    });
    Ok(())
}

/// The backward pass of [`global_average_pool`]: `grad [n, c]` to `dx [n, pixels, c]`.
///
/// # Errors
/// As in [`global_average_pool`].
pub fn global_average_pool_backward(
    grad: &[f32],
    n: usize,
    pixels: usize,
    c: usize,
    dx: &mut [f32],
) -> Result<()> {
    check_pool(dx.len(), n, pixels, c, grad.len())?;
    dx.par_chunks_mut(pixels * c).zip(grad.par_chunks(c)).for_each(|(dx, grad)| {
        for pixel in dx.chunks_exact_mut(c) {
            pixel.iter_mut().zip(grad).for_each(|(d, g)| *d = g / pixels as f32);
        }
    });
    Ok(())
}

fn check_pool(images: usize, n: usize, pixels: usize, c: usize, pooled: usize) -> Result<()> {
    KernelError::check_len(|| "images of the global pool".into(), &[n, pixels, c], images)?;
    KernelError::check_len(|| "result of the global pool".into(), &[n, c], pooled)?;
    if n * pixels * c == 0 {
        let found = format!("{n} images of {pixels} pixels, {c} channels");
        let expected = "at least one of each".into();
        return Err(KernelError::Spec {
            field: "input",
            expected,
            found,
            remedy: "check the size of the images",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concat_puts_parts_side_by_side_and_back() {
        let pixels = PIXELS + 3;
        let a: Vec<f32> = (0..pixels * 2).map(|i| i as f32).collect();
        let b: Vec<f32> = a.iter().map(|v| -v).collect();
        let mut out = vec![0.0; pixels * 4];
        concat(&[&a, &b], 2, &mut out).unwrap();
        assert_eq!(out[..8], [0.0, 1.0, 0.0, -1.0, 2.0, 3.0, -2.0, -3.0]);
        let mut back = vec![vec![0.0; pixels * 2]; 2];
        concat_backward(&out, 2, &mut back).unwrap();
        assert_eq!(back, [a, b]);
    }

    #[test]
    fn wrong_lengths_are_named() {
        let error = concat(&[&[0.0; 4], &[0.0; 6]], 2, &mut [0.0; 8]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "part 1 of the concatenation: expected 4 values ([2, 2]), found 6; pass a contiguous tensor of that shape"
        );
        let error = concat_backward(&[0.0; 8], 2, &mut [vec![0.0; 4], vec![0.0; 6]]).unwrap_err();
        assert!(error.to_string().contains("gradient of part 1: expected 4 values"), "{error}");
        assert!(
            global_average_pool(&[], 1, 0, 1, &mut [0.0])
                .unwrap_err()
                .to_string()
                .contains("at least one")
        );
    }

    #[test]
    fn global_pool_is_the_mean_and_its_gradient_an_equal_share() {
        let x = [1.0, 10.0, 3.0, 30.0, 5.0, 50.0, 7.0, 70.0];
        let mut out = [0.0; 4];
        global_average_pool(&x, 2, 2, 2, &mut out).unwrap();
        assert_eq!(out, [2.0, 20.0, 6.0, 60.0]);
        let mut dx = [0.0; 8];
        global_average_pool_backward(&out, 2, 2, 2, &mut dx).unwrap();
        assert_eq!(dx, [1.0, 10.0, 1.0, 10.0, 3.0, 30.0, 3.0, 30.0]);
    }
}
