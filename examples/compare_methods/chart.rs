//! An SVG chart of loss against trained parameters, both axes logarithmic.

use std::fmt::Write;

/// A method in the chart.
pub struct Point {
    pub name: &'static str,
    /// Trained parameters.
    pub x: f64,
    /// Evaluation loss.
    pub y: f64,
    /// Whether it can be merged into the weights.
    pub merges: bool,
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 48.0;
/// The approximate width and height of a letter.
const LETTER: (f64, f64) = (6.4, 13.0);

/// `[left, top, right, bottom]`
type Rect = [f64; 4];

/// Maps a positive number to a position between two, by its logarithm.
fn axis(values: impl Iterator<Item = f64> + Clone, to: (f64, f64)) -> impl Fn(f64) -> f64 {
    let low = values.clone().fold(f64::INFINITY, f64::min).ln();
    let high = values.fold(f64::NEG_INFINITY, f64::max).ln();
    let (low, span) = (low - 0.05 * (high - low), (1.1 * (high - low)).max(1e-9));
    move |value| to.0 + (value.ln() - low) / span * (to.1 - to.0)
}

/// The chart; empty if there are no points.
pub fn svg(points: &[Point]) -> String {
    let x = axis(points.iter().map(|p| p.x), (LEFT, WIDTH - RIGHT));
    let y = axis(points.iter().map(|p| p.y), (HEIGHT - BOTTOM, TOP));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n\
         <title>Evaluation loss against trained parameters</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\">evaluation loss (nats per token); filled: can be merged into \
         the weights</text>\n\
         <text x=\"{}\" y=\"{}\" text-anchor=\"end\">trained parameters</text>\n",
        WIDTH - RIGHT,
        HEIGHT - 10.0
    );
    for power in 2..=9 {
        let value = 10_f64.powi(power);
        let at = x(value);
        if (LEFT..=WIDTH - RIGHT).contains(&at) {
            let (bottom, label) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 16.0);
            let _ = writeln!(
                out,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{at:.1}\" y=\"{label}\" text-anchor=\"middle\">{}</text>",
                burn_peft::parameters::thousands(value as usize)
            );
        }
    }
    for value in [0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6] {
        let at = y(value);
        if (TOP..=HEIGHT - BOTTOM).contains(&at) {
            let _ = writeln!(
                out,
                "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#e4e4e4\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0
            );
        }
    }
    let centres: Vec<(f64, f64)> = points.iter().map(|p| (x(p.x), y(p.y))).collect();
    let dots = centres.iter();
    let mut taken: Vec<Rect> = dots
        .map(|(x, y)| [x - 4.0, y - 4.0, x + 4.0, y + 4.0])
        .collect();
    for (point, &(x, y)) in points.iter().zip(&centres) {
        let label = place(point.name, (x, y), &taken);
        taken.push(label);
        let fill = if point.merges { "#2563a8" } else { "#fff" };
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"#2563a8\" \
             stroke-width=\"1.5\"><title>{}: {:.3} with {} parameters</title></circle>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            point.name,
            point.y,
            burn_peft::parameters::thousands(point.x as usize),
            label[0],
            label[3] - 3.0,
            point.name
        );
    }
    out + "</svg>\n"
}

/// A position for a label near its point without covering others; to the right if none is free.
fn place(text: &str, (x, y): (f64, f64), taken: &[Rect]) -> Rect {
    let (width, height) = (LETTER.0 * text.chars().count() as f64, LETTER.1);
    let at = |left: f64, top: f64| [left, top, left + width, top + height];
    let rows = [0.0, -8.0, 8.0, -16.0, 16.0, -24.0, 24.0];
    let middle = y - height / 2.0;
    let beside = |gap: f64| {
        rows.iter().flat_map(move |row| {
            let top = middle + row;
            [at(x + gap, top), at(x - gap - width, top)]
        })
    };
    let centred = [
        at(x - width / 2.0, middle - 14.0),
        at(x - width / 2.0, middle + 14.0),
    ];
    let is_free = |rect: &Rect| {
        rect[0] >= LEFT
            && rect[2] <= WIDTH
            && !taken
                .iter()
                .any(|t| rect[0] < t[2] && t[0] < rect[2] && rect[1] < t[3] && t[1] < rect[3])
    };
    let free = beside(7.0).chain(centred).chain(beside(12.0)).find(is_free);
    free.unwrap_or_else(|| at(x + 7.0, middle))
}
