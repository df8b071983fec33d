//! Curves as SVG.

use std::fmt::Write;

use super::escape;
use crate::seeing::numbers::number as number_of;

/// The most points drawn of a curve: a longer one keeps the extremes of every section.
const MAX_POINTS: usize = 600;

/// Values over the optimizer steps.
pub(crate) struct Series {
    /// The text in the legend.
    pub name: &'static str,
    /// The CSS class for its colour, and whether its points are marked.
    pub class: &'static str,
    /// Steps and values, ordered by step; all finite.
    pub points: Vec<(f64, f64)>,
}

/// A picture of several curves over the same steps.
pub(crate) struct Chart<'a> {
    pub title: &'a str,
    pub series: Vec<Series>,
    /// In units of its own text, whose letters are 12 high.
    pub size: (f64, f64),
    /// Whether the value axis begins at 0.
    pub from_zero: bool,
}

const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;

impl Chart<'_> {
    /// A `<figure>`, or nothing if there is nothing to draw.
    pub fn render(&self) -> String {
        let series: Vec<&Series> = self
            .series
            .iter()
            .filter(|s| !s.points.is_empty())
            .collect();
        let points = || series.iter().flat_map(|s| s.points.iter().copied());
        if points().count() == 0 {
            return String::new();
        }
        let (width, height) = self.size;
        let (_, last) = range(points().map(|(step, _)| step));
        let steps = Axis::whole((0.0, last));
        let mut values = range(points().map(|(_, value)| value));
        if self.from_zero {
            values.0 = values.0.min(0.0);
        }
        let values = Axis::nice(values);
        let x = |step: f64| LEFT + steps.share(step) * (width - LEFT - RIGHT);
        let y = |value: f64| height - BOTTOM - values.share(value) * (height - TOP - BOTTOM);

        let mut svg = String::new();
        for &tick in &values.ticks {
            let (at, label) = (y(tick), number(tick));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                width - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
        for &tick in &steps.ticks {
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                x(tick),
                height - 8.0,
                number(tick)
            );
        }
        for series in &series {
            let points = thinned(&series.points);
            let line: Vec<String> = points
                .iter()
                .map(|&(step, value)| format!("{:.1},{:.1}", x(step), y(value)))
                .collect();
            let class = series.class;
            let _ = write!(
                svg,
                "<polyline class=\"{class}\" points=\"{}\"/>",
                line.join(" ")
            );
            // The dots of a plain curve are invisible, but show their numbers on hover.
            for &(step, value) in &points {
                let (x, y) = (x(step), y(value));
                let _ = write!(
                    svg,
                    "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\">\
                     <title>step {step}: {} {}</title></circle>",
                    series.name,
                    number_of(value, 5)
                );
            }
        }
        let ends = |series: &&Series| {
            let ((_, first), (_, last)) =
                (series.points[0], series.points[series.points.len() - 1]);
            format!(
                "{} {} to {}",
                series.name,
                number_of(first, 4),
                number_of(last, 4)
            )
        };
        let told: Vec<String> = series.iter().map(ends).collect();
        let legend: Vec<String> = series
            .iter()
            .map(|s| format!("<span class=\"{}\">{}</span>", s.class, s.name))
            .collect();
        let legend = match legend.len() {
            1 => String::new(),
            _ => format!(" <span class=\"legend\">{}</span>", legend.join("")),
        };
        let title = escape(self.title);
        format!(
            "<figure class=\"{}\"><figcaption>{title}{legend}</figcaption><svg viewBox=\"0 0 {width} {height}\" \
             role=\"img\" aria-label=\"{title}: {}\">{svg}</svg></figure>\n",
            if width > 600.0 { "wide" } else { "narrow" },
            told.join("; ")
        )
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

/// The range that an axis shows, and the numbers written beside it.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// Extends to round numbers on both ends.
    fn nice((low, high): (f64, f64)) -> Self {
        let (low, high) = widened(low, high);
        let by = round_step((high - low) / 4.0);
        let (first, last) = ((low / by).floor(), (high / by).ceil());
        let ticks = (0..=(last - first) as usize).map(|i| (first + i as f64) * by);
        Self {
            low: first * by,
            high: last * by,
            ticks: ticks.collect(),
        }
    }

    /// Ends where the numbers end; its ticks are whole.
    fn whole((low, high): (f64, f64)) -> Self {
        let (low, high) = widened(low, high);
        let by = round_step((high - low) / 6.0).max(1.0);
        let (first, last) = ((low / by).ceil(), (high / by).floor());
        let ticks = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * by);
        Self {
            low,
            high,
            ticks: ticks.collect(),
        }
    }

    /// Where a number lies in the range, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// A range that is not a single point.
fn widened(low: f64, high: f64) -> (f64, f64) {
    let least = (low.abs().max(high.abs()) * 1e-3).max(1e-12);
    if high - low > least {
        (low, high)
    } else {
        (low - least, high + least)
    }
}

/// The next 1, 2 or 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * power >= step);
    digit.unwrap_or(10.0) * power
}

/// The points that preserve the shape of a long curve: the lowest and the highest of every section.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MAX_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MAX_POINTS / 2);
    let mut kept = Vec::new();
    for part in points.chunks(stretch) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (part.iter().min_by(by_value), part.iter().max_by(by_value));
        let mut both: Vec<_> = low.into_iter().chain(high).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both.dedup();
        kept.extend(both);
    }
    // The curve ends where the run ended.
    let last = points[points.len() - 1];
    if kept.last() != Some(&last) {
        kept.push(last);
    }
    kept
}

/// A number with enough digits to differ from its neighbours on an axis.
fn number(value: f64) -> String {
    number_of(value, 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers_and_numbers_are_short() {
        let axis = Axis::nice((2.13, 3.97));
        assert_eq!(axis.ticks, [2.0, 2.5, 3.0, 3.5, 4.0]);
        let axis = Axis::nice((0.0, 2e-4));
        assert_eq!(axis.ticks.len(), 5);
        assert_eq!(number(axis.ticks[4]), "2e-4");
        // A constant curve still has an axis.
        assert!(Axis::nice((3.0, 3.0)).share(3.0).is_finite());
        assert!(Axis::nice((0.0, 0.0)).share(0.0).is_finite());
        assert_eq!(Axis::whole((1.0, 2.0)).ticks, [1.0, 2.0]);
        let texts = [0.0, 0.5, 1234.0, 12_345.0, 2_500_000.0, 1.5e-5, -0.25].map(number);
        assert_eq!(
            texts,
            ["0", "0.5", "1234", "12.3k", "2.5M", "1.5e-5", "-0.25"]
        );
    }

    #[test]
    fn a_long_curve_keeps_its_spikes_and_its_end() {
        let mut points: Vec<_> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        points[4321].1 = 9.0;
        let kept = thinned(&points);
        assert!(kept.len() <= MAX_POINTS + 1, "{}", kept.len());
        assert!(kept.contains(&(4321.0, 9.0)));
        assert_eq!(kept.last(), Some(&(9999.0, 1.0)));
    }
}
