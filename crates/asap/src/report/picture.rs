//! Drawings of cells in pixels, for programs that cannot read SVG.

use asap_core::{CellKind, Genotype};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

/// Pixels per unit of the drawing.
const SCALE: f32 = 2.0;

/// A picture of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Picture {
    /// The bytes of a PNG file.
    pub png: Vec<u8>,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// The drawing of [`asap_core::svg`] as a PNG, on white, with a built-in font.
pub fn picture(genotype: &Genotype, kind: CellKind, title: &str) -> Picture {
    let mut options = usvg::Options::default();
    for font in [dejavu::sans_mono::regular(), dejavu::sans::bold()] {
        options.fontdb_mut().load_font_data(font.to_vec());
    }
    let tree = usvg::Tree::from_str(&asap_core::svg(genotype, kind, title), &options)
        .expect("a drawing of ours is SVG");
    let size = tree.size().to_int_size().scale_by(SCALE).expect("a drawing of ours has a size");
    let (width, height) = (size.width(), size.height());
    let mut pixels = Pixmap::new(width, height).expect("a drawing of ours fits in memory");
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Picture { png: pixels.encode_png().expect("memory takes every byte"), width, height }
}

#[cfg(test)]
mod tests {
    use asap_core::PublishedCell;

    use super::*;

    /// Number of dark pixels of the picture, as in letters, wires and frames.
    fn ink(picture: &Picture) -> usize {
        let pixels = Pixmap::decode_png(&picture.png).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (picture.width, picture.height));
        assert!(pixels.pixels().iter().all(|pixel| pixel.alpha() == 255));
        pixels.pixels().iter().filter(|pixel| pixel.green() < 100).count()
    }

    #[test]
    fn a_picture_is_a_png_on_white_with_its_letters() {
        let cell = PublishedCell::find("ASAP").unwrap().genotype();
        let plain = picture(&cell, CellKind::Normal, "");
        assert!(plain.png.starts_with(b"\x89PNG\r\n\x1a\n"));
        assert!(plain.width > 1000 && plain.height > 200, "{} x {}", plain.width, plain.height);
        let letters = ink(&picture(&cell, CellKind::Normal, "normal cell")) - ink(&plain);
        assert!((200..5000).contains(&letters), "{letters} pixels of a title");
    }
}
