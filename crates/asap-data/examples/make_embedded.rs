//! Makes `embedded/fashion-mnist-6000.idx.gz` from the published files of Fashion-MNIST.
//!
//! `cargo run --example make_embedded -- /usr/share/datasets/fashion-mnist OUT.gz` takes the first 500 training and 100
//! test images of every class, in the order of the files, as four IDX arrays in one gzip stream.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use asap_data::{DataSpec, Dataset, LoadOptions, load};
use flate2::{Compression, GzBuilder};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target] = &arguments[..] else {
        return Err("usage: make_embedded FOLDER_OF_FASHION_MNIST OUT.gz".into());
    };
    let splits = load(&DataSpec::Path(source.into()), None, &LoadOptions::default())?;
    let test = splits.test.ok_or("no test images")?;
    let mut out =
        GzBuilder::new().mtime(0).write(File::create(Path::new(target))?, Compression::best());
    write_first(&mut out, &splits.train, 500)?;
    write_first(&mut out, &test, 100)?;
    out.finish()?;
    Ok(())
}

/// Writes images and labels of the first `per_class` images of every class.
fn write_first(
    out: &mut impl Write,
    data: &Dataset,
    per_class: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut seen = vec![0; data.classes().len()];
    let mut chosen = Vec::new();
    for (index, &label) in data.labels().iter().enumerate() {
        let count = &mut seen[usize::from(label)];
        if *count < per_class {
            *count += 1;
            chosen.push(index);
        }
    }
    write_header(out, &[chosen.len(), data.height(), data.width()])?;
    for &index in &chosen {
        out.write_all(&data.image(index)?)?;
    }
    write_header(out, &[chosen.len()])?;
    for &index in &chosen {
        out.write_all(&[data.labels()[index] as u8])?;
    }
    Ok(())
}

fn write_header(out: &mut impl Write, sides: &[usize]) -> std::io::Result<()> {
    out.write_all(&[0, 0, 8, sides.len() as u8])?;
    sides.iter().try_for_each(|&side| out.write_all(&(side as u32).to_be_bytes()))
}
