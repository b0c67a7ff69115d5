//! Line charts as SVG, for pages and as files: black on white or white on black to match the page, and readable without
//! colour, since each line has its own dashes.

use std::fmt::Write;

/// One line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    /// Its name in the legend; empty to leave it out.
    pub(crate) name: String,
    /// Points from left to right.
    pub(crate) points: Vec<(f64, f64)>,
    /// Half the height of a band around each; none without.
    pub(crate) spread: Vec<f64>,
}

/// A chart of lines over a common axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chart<'a> {
    /// Above it.
    pub(crate) title: &'a str,
    /// Under the horizontal axis.
    pub(crate) x: &'a str,
    /// Above the vertical axis.
    pub(crate) y: &'a str,
    /// The lines; one without points is left out.
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
/// Margins around the lines.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 44.0;
/// Height of a line of the legend.
const LEGEND: f64 = 18.0;
/// Colours that the colour-blind can distinguish (Okabe and Ito 2008), on white and on black.
pub(super) const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8a8a"];
const DASHES: [&str; 5] = ["none", "7 3", "2 3", "9 3 2 3", "12 4"];
/// Approximate number of labels on an axis.
const TICKS: f64 = 5.0;

impl Chart<'_> {
    /// The chart as an SVG element.
    pub(crate) fn svg(&self) -> String {
        let drawn: Vec<&Series> = self.series.iter().filter(|s| !s.points.is_empty()).collect();
        let points = || drawn.iter().flat_map(|s| &s.points).filter(|p| p.1.is_finite());
        let xs = Axis::over(points().map(|p| p.0));
        let edges = drawn.iter().flat_map(|s| s.band()).flat_map(|(_, low, high)| [low, high]);
        let ys = Axis::over(points().map(|p| p.1).chain(edges).filter(|y| y.is_finite()));
        let named = drawn.iter().filter(|series| !series.name.is_empty()).count();
        let height = HEIGHT + LEGEND * named as f64;
        let frame = Frame { right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM };
        let at_x = |x: f64| frame.at_x(xs.share(x));
        let at_y = |y: f64| frame.at_y(ys.share(y));
        let mut svg = frame.open([self.title, self.x, self.y], [WIDTH, height]);
        for tick in xs.ticks() {
            frame.label_x(&mut svg, at_x(tick), &xs.label(tick));
        }
        frame.heights(&mut svg, &ys);
        for (i, series) in drawn.iter().enumerate() {
            let style = format!(
                "fill=\"none\" stroke=\"{}\" stroke-dasharray=\"{}\" stroke-width=\"2\"",
                COLOURS[i % COLOURS.len()],
                DASHES[i % DASHES.len()]
            );
            let line: String = series
                .points
                .iter()
                .filter(|point| point.1.is_finite())
                .map(|&(x, y)| format!("{:.1},{:.1} ", at_x(x), at_y(y)))
                .collect();
            let band: Vec<_> = series.band().collect();
            if !band.is_empty() {
                let high = band.iter().map(|&(x, _, high)| (x, high));
                let low = band.iter().rev().map(|&(x, low, _)| (x, low));
                let edge: String = high
                    .chain(low)
                    .map(|(x, y)| format!("{:.1},{:.1} ", at_x(x), at_y(y)))
                    .collect();
                let colour = COLOURS[i % COLOURS.len()];
                let _ = write!(
                    svg,
                    "<polygon fill=\"{colour}\" fill-opacity=\"0.12\" stroke=\"none\" points=\"{edge}\"/>"
                );
            }
            let _ = write!(svg, "<polyline {style} points=\"{line}\"/>");
            // A line of one point has no length.
            if let [(x, y)] = series.points[..] {
                let (x, y, colour) = (at_x(x), at_y(y), COLOURS[i % COLOURS.len()]);
                let _ =
                    write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            }
            if series.name.is_empty() {
                continue;
            }
            let y = HEIGHT + LEGEND * i as f64;
            let _ = write!(
                svg,
                "<path {style} d=\"M{LEFT} {y}h40\"/>\
                 <text x=\"{}\" y=\"{}\" fill=\"currentColor\">{}</text>",
                LEFT + 48.0,
                y + 4.0,
                escape(&series.name),
            );
        }
        svg.push_str("</svg>");
        svg
    }
}

/// The axes of a picture, whose left upper corner is always at the same place.
pub(super) struct Frame {
    /// The right end of the horizontal axis.
    pub(super) right: f64,
    /// Its height.
    pub(super) bottom: f64,
}

impl Frame {
    /// The place of a share of the horizontal axis, from 0 to 1.
    pub(super) fn at_x(&self, share: f64) -> f64 {
        LEFT + share * (self.right - LEFT)
    }

    /// The same of the vertical axis, from the bottom.
    pub(super) fn at_y(&self, share: f64) -> f64 {
        self.bottom - share * (self.bottom - TOP)
    }

    /// The beginning of a picture of this size: its title, the names of both axes, and their lines.
    pub(super) fn open(&self, [title, x, y]: [&str; 3], [width, height]: [f64; 2]) -> String {
        let Self { right, bottom } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"{title}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" \
             color=\"#777\"><title>{title}</title>\
             <text x=\"{LEFT}\" y=\"18\" font-size=\"15\" fill=\"currentColor\">{title}</text>\
             <text x=\"{LEFT}\" y=\"36\" fill=\"currentColor\">{y}</text>\
             <text x=\"{right}\" y=\"{label}\" text-anchor=\"end\" fill=\"currentColor\">{x}</text>\
             <path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"currentColor\"/>",
            title = escape(title),
            x = escape(x),
            y = escape(y),
            label = bottom + 36.0,
        )
    }

    /// A label of the horizontal axis.
    pub(super) fn label_x(&self, svg: &mut String, x: f64, text: &str) {
        let y = self.bottom + 18.0;
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"currentColor\">{text}</text>"
        );
    }

    /// The lines and labels of the vertical axis.
    pub(super) fn heights(&self, svg: &mut String, ys: &Axis) {
        for tick in ys.ticks() {
            let (y, text) = (self.at_y(ys.share(tick)), ys.label(tick));
            let _ = write!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"currentColor\" stroke-opacity=\"0.2\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"currentColor\">{text}</text>",
                LEFT - 6.0,
                y + 4.0,
                right = self.right,
            );
        }
    }
}

impl Series {
    /// The lower and the upper edge of the band, with their place.
    fn band(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        self.points.iter().zip(&self.spread).map(|(&(x, y), half)| (x, y - half, y + half))
    }
}

/// A range of numbers with round ones marked on it.
pub(super) struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// Covers all the values, and ends at round numbers.
    pub(super) fn over(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        let (low, high) = if low == high {
            let room = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
            (low - room, high + room)
        } else {
            (low, high)
        };
        let rough = (high - low) / TICKS;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough);
        let step = step.unwrap_or(10.0 * power);
        Self { low: (low / step).floor() * step, high: (high / step).ceil() * step, step }
    }

    pub(super) fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    pub(super) fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        let count = ((self.high - self.low) / self.step).round() as u32;
        (0..=count).map(|i| self.low + f64::from(i) * self.step)
    }

    /// The number, with as many decimals as the step.
    pub(super) fn label(&self, value: f64) -> String {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
            return format!("{:.decimals$}", 0.0);
        }
        text
    }
}

/// Escapes text for HTML and SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64]) -> Vec<String> {
        let axis = Axis::over(values.iter().copied());
        axis.ticks().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn axes_end_at_round_numbers_around_all_values() {
        assert_eq!(labels(&[0.0, 1.0]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[3.0, 47.0]), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(labels(&[-0.03, 0.01]), ["-0.03", "-0.02", "-0.01", "0.00", "0.01"]);
        assert_eq!(labels(&[7.0]).first().map(String::as_str), Some("2"), "one value");
        assert_eq!(labels(&[]).last().map(String::as_str), Some("1.0"), "no value");
    }

    #[test]
    fn a_line_goes_from_corner_to_corner_and_names_are_escaped() {
        let series = |name: &str, points: &[(f64, f64)]| Series {
            name: name.to_owned(),
            points: points.to_vec(),
            ..Series::default()
        };
        let chart = Chart {
            title: "a < b",
            x: "epoch",
            y: "share",
            series: vec![
                series("one", &[(0.0, 0.0), (0.5, f64::NAN), (1.0, 1.0)]),
                series("nothing", &[]),
            ],
        };
        let svg = chart.svg();
        assert!(svg.contains("points=\"64.0,276.0 624.0,44.0 \""), "{svg}");
        assert!(svg.contains("a &lt; b") && !svg.contains("nothing"), "{svg}");
        assert!(!svg.contains("<circle"), "{svg}");
        let chart = Chart { series: vec![series("one", &[(1.0, 2.0)])], ..chart };
        assert!(chart.svg().contains("<circle cx=\"344.0\" cy=\"160.0\""), "{}", chart.svg());
    }
}
