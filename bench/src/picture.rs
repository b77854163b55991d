//! Pictures, as SVG that fits light and dark pages: bars side by side, and curves.

use std::fmt::Write;

/// Bars in groups, in one panel or several with the same rows.
#[derive(Clone, Debug)]
pub struct Bars {
    /// What is shown.
    pub title: String,
    /// A panel for each value of a bar, with its heading.
    pub panels: Vec<String>,
    /// The value that fills a panel.
    pub full: f64,
    /// The rows.
    pub groups: Vec<Group>,
}

/// Rows that belong together.
#[derive(Clone, Debug)]
pub struct Group {
    /// Their heading.
    pub title: String,
    /// The rows.
    pub bars: Vec<Bar>,
}

/// A row.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Whether it is drawn in the colour that leaps to the eye.
    pub emphasised: bool,
    /// A value for each panel, and how it is written.
    pub values: Vec<Option<(f64, String)>>,
}

/// Curves over a logarithmic scale of numbers of sessions.
#[derive(Clone, Debug)]
pub struct Curves {
    /// What is shown.
    pub title: String,
    /// The unit of the values.
    pub unit: String,
    /// The curves: a name, and points.
    pub curves: Vec<(String, Vec<(f64, f64)>)>,
}

const STYLE: &str = "<style>\
    .page{fill:#fff}.ink{fill:#2b2118}.soft{fill:#6b5d50}.ours{fill:#b5572a}.theirs{fill:#b9b0a4}.line{stroke:#d9d2c7}\
    @media(prefers-color-scheme:dark){.page{fill:#1c1a18}.ink{fill:#efe9e1}.soft{fill:#b3a89b}.ours{fill:#e07b45}\
    .theirs{fill:#6f675d}.line{stroke:#4a443d}}</style>";
const WIDTH: f64 = 900.0;
const LABELS: f64 = 284.0;
const ROW: f64 = 19.0;
const GAP: f64 = 26.0;

/// Text, safe between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            c if c.is_control() => {}
            c => safe.push(c),
        }
    }
    safe
}

fn open(title: &str, height: f64) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{title}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n<title>{title}</title>\n{STYLE}\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"12\"/>\n\
         <text class=\"ink\" x=\"20\" y=\"30\" font-size=\"16\" font-weight=\"600\">{title}</text>\n"
    )
}

impl Bars {
    /// The picture.
    pub fn svg(&self) -> String {
        let heading = |group: &Group| if group.title.is_empty() { 0.0 } else { GAP };
        let rows: f64 = self.groups.iter().map(|group| heading(group) + group.bars.len() as f64 * ROW).sum();
        let top = if self.panels.iter().all(String::is_empty) { 44.0 } else { 62.0 };
        let height = top + rows + 18.0;
        let panel = (WIDTH - LABELS - 20.0) / self.panels.len().max(1) as f64;
        // The value is written behind its bar.
        let full = panel - 62.0;
        let mut svg = open(&self.title, height);
        for (place, name) in self.panels.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let x = LABELS + panel * place as f64;
            let _ = writeln!(svg, "<text class=\"soft\" x=\"{x:.0}\" y=\"54\">{}</text>", escape(name));
        }
        let mut y = top;
        for group in &self.groups {
            if !group.title.is_empty() {
                y += GAP;
                let title = escape(&group.title);
                let _ = writeln!(
                    svg,
                    "<text class=\"ink\" x=\"20\" y=\"{:.0}\" font-weight=\"600\">{title}</text>",
                    y - 7.0
                );
            }
            for bar in &group.bars {
                let (ink, weight) = if bar.emphasised { ("ink", "600") } else { ("soft", "400") };
                let _ = writeln!(
                    svg,
                    "<text class=\"{ink}\" x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" font-weight=\"{weight}\">{}</text>",
                    LABELS - 10.0,
                    y + 14.0,
                    escape(&bar.label)
                );
                for (place, value) in bar.values.iter().enumerate() {
                    let Some((value, text)) = value else { continue };
                    let x = LABELS + panel * place as f64;
                    let width = (value / self.full).clamp(0.0, 1.1) * full;
                    let class = if bar.emphasised { "ours" } else { "theirs" };
                    let _ = writeln!(
                        svg,
                        "<rect class=\"{class}\" x=\"{x:.0}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"14\" rx=\"2\"/>\
                         <text class=\"{ink}\" x=\"{:.1}\" y=\"{:.0}\" font-size=\"12\">{}</text>",
                        y + 3.0,
                        x + width + 5.0,
                        y + 14.0,
                        escape(text)
                    );
                }
                y += ROW;
            }
        }
        svg + "</svg>\n"
    }
}

impl Curves {
    /// The picture.
    pub fn svg(&self) -> String {
        const COLOURS: [&str; 4] = ["#b5572a", "#3d7ea6", "#5f8a3a", "#8a5fa8"];
        let (left, right, top, bottom) = (70.0, 640.0, 60.0, 330.0);
        let mut svg = open(&self.title, 380.0);
        let points = || self.curves.iter().flat_map(|(_, points)| points);
        let bound = |value: &dyn Fn(&(f64, f64)) -> f64, least: f64| points().map(value).fold(least, f64::max);
        let (most_rows, most) = (bound(&|point| point.0, 1.0).log10(), bound(&|point| point.1, f64::MIN_POSITIVE));
        let fewest = points().map(|point| point.0).fold(f64::INFINITY, f64::min).log10().min(most_rows - 1.0);
        let x = |rows: f64| left + (rows.log10() - fewest) / (most_rows - fewest) * (right - left);
        let y = |value: f64| bottom - value / (most * 1.1) * (bottom - top);
        for step in 0..=4 {
            let value = most * f64::from(step) / 4.0;
            let _ = writeln!(
                svg,
                "<path class=\"line\" d=\"M{left} {0:.1}H{right}\"/>\
                 <text class=\"soft\" x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.0}</text>",
                y(value),
                left - 8.0,
                y(value) + 4.0
            );
        }
        let _ = writeln!(svg, "<text class=\"soft\" x=\"20\" y=\"50\">{}</text>", escape(&self.unit));
        let mut ticks: Vec<f64> = points().map(|point| point.0).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        for rows in ticks {
            let text = crate::results::thousands(rows);
            let _ = writeln!(
                svg,
                "<text class=\"soft\" x=\"{:.1}\" y=\"352\" text-anchor=\"middle\">{text} sessions</text>",
                x(rows)
            );
        }
        for (place, (name, points)) in self.curves.iter().enumerate() {
            let colour = COLOURS[(place / 2) % COLOURS.len()];
            let dashes = if place % 2 == 1 { " stroke-dasharray=\"6 4\"" } else { "" };
            let path: Vec<String> =
                points.iter().map(|(rows, value)| format!("{:.1} {:.1}", x(*rows), y(*value))).collect();
            let _ = writeln!(
                svg,
                "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"{dashes} d=\"M{}\"/>\
                 <path stroke=\"{colour}\" stroke-width=\"2.5\"{dashes} d=\"M665 {1}h28\"/>\
                 <text class=\"ink\" x=\"700\" y=\"{2}\">{3}</text>",
                path.join("L"),
                80 + place * 22,
                84 + place * 22,
                escape(name)
            );
        }
        svg + "</svg>\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_safe() {
        assert_eq!(escape("a < b & \"c\" > d\n"), "a &lt; b &amp; &quot;c&quot; &gt; d");
    }

    #[test]
    fn bars_are_as_long_as_their_values() {
        let bar = |label: &str, value| Bar {
            label: label.to_owned(),
            emphasised: value > 0.5,
            values: vec![Some((value, format!("{value}"))), None],
        };
        let group = Group { title: "R&D".to_owned(), bars: vec![bar("<us>", 1.0), bar("them", 0.5)] };
        let panels = vec!["one".to_owned(), "two".to_owned()];
        let svg = Bars { title: "Title".to_owned(), panels, full: 1.0, groups: vec![group] }.svg();
        assert!(svg.contains("R&amp;D") && svg.contains("&lt;us&gt;") && svg.ends_with("</svg>\n"), "{svg}");
        assert!(svg.contains("class=\"ours\" x=\"284\" y=\"91\" width=\"236.0\""), "{svg}");
        assert!(svg.contains("class=\"theirs\" x=\"284\" y=\"110\" width=\"118.0\""), "{svg}");
    }

    #[test]
    fn curves_span_the_picture() {
        let curves = vec![("load".to_owned(), vec![(1e4, 10.0), (1e6, 20.0)]), ("save".to_owned(), vec![(1e4, 40.0)])];
        let svg = Curves { title: "T".to_owned(), unit: "µs".to_owned(), curves }.svg();
        assert!(svg.contains("d=\"M70.0 268.6L640.0 207.3\""), "{svg}");
        assert!(svg.contains("1,000,000 sessions") && svg.contains(">40<"), "{svg}");
    }
}
