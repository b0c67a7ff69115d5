//! Points with names over a logarithmic axis, as SVG: the paper's Figure 1.

use std::fmt::Write;

use super::chart::{Axis, COLOURS, Frame, escape};

/// A point of a scatter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) name: String,
    /// Above 0; 0 for what has no place on the axis, and is a line across it.
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// What the area of its circle stands for.
    pub(crate) size: f64,
    /// True for a number of others, which is drawn hollow.
    pub(crate) hollow: bool,
}

/// Points with names; the area of a circle grows with the point's size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scatter<'a> {
    pub(crate) title: &'a str,
    /// Under the horizontal axis.
    pub(crate) x: &'a str,
    /// Above the vertical axis.
    pub(crate) y: &'a str,
    pub(crate) points: Vec<Point>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const RIGHT: f64 = 96.0;
const BOTTOM: f64 = 44.0;
/// Radius of the largest circle.
const LARGEST: f64 = 14.0;

impl Scatter<'_> {
    /// The scatter as an SVG element; points that are below 0 or not finite are left out.
    pub(crate) fn svg(&self) -> String {
        let is_good = |point: &&Point| point.x >= 0.0 && point.x.is_finite() && point.y.is_finite();
        let good = || self.points.iter().filter(is_good);
        let (points, lines): (Vec<&Point>, Vec<&Point>) = good().partition(|point| point.x > 0.0);
        let decades =
            |bound: fn(f64) -> f64| points.iter().map(move |point| bound(point.x.log10()));
        let low = decades(f64::floor).fold(f64::INFINITY, f64::min);
        let high = decades(f64::ceil).fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = if low < high { (low, high) } else { (low.min(0.0), low.min(0.0) + 1.0) };
        let (low, high) = if low.is_finite() { (low, high) } else { (0.0, 1.0) };
        let ys = Axis::over(good().map(|point| point.y));
        let largest = points.iter().map(|point| point.size).fold(f64::MIN_POSITIVE, f64::max);
        let frame = Frame { right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM };
        let at_x = |decade: f64| frame.at_x((decade - low) / (high - low));
        let at_y = |y: f64| frame.at_y(ys.share(y));
        let mut svg = frame.open([self.title, self.x, self.y], [WIDTH, HEIGHT]);
        for decade in low as i32..=high as i32 {
            frame.label_x(&mut svg, at_x(f64::from(decade)), &power(decade));
        }
        frame.heights(&mut svg, &ys);
        for line in lines {
            let (y, left, right, name) =
                (at_y(line.y), frame.at_x(0.0), frame.right, escape(&line.name));
            let _ = write!(
                svg,
                "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"currentColor\" stroke-dasharray=\"5 4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"11\" fill=\"currentColor\">{name}</text>",
                right + 4.0,
                y + 4.0
            );
        }
        // Names that would cover each other move down.
        let mut names: Vec<(f64, f64, &str)> = Vec::new();
        for point in &points {
            let (x, y) = (at_x(point.x.log10()), at_y(point.y));
            let radius = LARGEST * (point.size / largest).max(0.0).sqrt();
            let radius = radius.max(3.0);
            let colour = if point.hollow { "currentColor" } else { COLOURS[0] };
            let fill = if point.hollow { "none" } else { colour };
            let _ = write!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" fill=\"{fill}\" fill-opacity=\"0.6\" stroke=\"{colour}\"/>"
            );
            names.push((x + radius + 3.0, y + 4.0, &point.name));
        }
        names.sort_by(|(_, one, _), (_, other, _)| one.total_cmp(other));
        for i in 0..names.len() {
            let (x, y, name) = names[i];
            let width = |name: &str| 7.0 * name.chars().count() as f64;
            let mut free = y;
            for &(other_x, other_y, other) in &names[..i] {
                let beside = other_x < x + width(name) && x < other_x + width(other);
                if beside && (free - other_y).abs() < 12.0 {
                    free = other_y + 12.0;
                }
            }
            names[i].1 = free;
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{free:.1}\" font-size=\"11\" fill=\"currentColor\">{}</text>",
                escape(name)
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

/// A power of ten in words of a few digits.
fn power(decade: i32) -> String {
    match decade {
        -3..=0 => format!("{:.*}", (-decade) as usize, 10f64.powi(decade)),
        1..=4 => format!("{:.0}", 10f64.powi(decade)),
        _ => format!("1e{decade}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, x: f64, y: f64, size: f64) -> Point {
        Point { name: name.to_owned(), x, y, size, hollow: false }
    }

    fn svg(points: Vec<Point>) -> String {
        Scatter { title: "a < b", x: "days", y: "error", points }.svg()
    }

    #[test]
    fn places_are_logarithmic_and_areas_proportional() {
        let text = svg(vec![
            point("one", 0.1, 0.0, 1.0),
            point("two", 10.0, 5.0, 4.0),
            point("three", 1.0, 2.5, 4.0),
            point("nowhere", -1.0, 1.0, 1.0),
            point("chance", 0.0, 2.5, 1.0),
        ]);
        assert!(text.contains("a &lt; b") && !text.contains("nowhere"), "{text}");
        assert!(text.contains("M64.0 220.0H624.0") && text.contains(">chance<"), "{text}");
        for circle in [
            "cx=\"64.0\" cy=\"396.0\" r=\"7.0\"",
            "cx=\"624.0\" cy=\"44.0\" r=\"14.0\"",
            "cx=\"344.0\" cy=\"220.0\"",
        ] {
            assert!(text.contains(circle), "{circle} in {text}");
        }
        for label in [">0.1<", ">1<", ">10<"] {
            assert!(text.contains(label), "{label} in {text}");
        }
    }

    #[test]
    fn names_at_one_place_are_below_each_other_and_nothing_is_drawn_of_nothing() {
        let text = svg(vec![point("one", 1.0, 1.0, 1.0), point("two", 1.0, 1.0, 1.0)]);
        let heights: Vec<&str> = text
            .split("font-size=\"11\"")
            .filter_map(|before| before.rsplit_once(" y=\"").map(|(_, y)| y))
            .collect();
        assert_ne!(heights[0], heights[1]);
        assert!(!svg(Vec::new()).contains("NaN"));
        assert_eq!(power(-2), "0.01");
        assert_eq!(power(3), "1000");
    }
}
