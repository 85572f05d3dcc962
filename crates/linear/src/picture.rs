//! A violation as one HTML file that needs nothing else: clients are rows, operations are bars from call to answer
//! (open at the end where there was none), and dots with numbers show the longest order and when each of its
//! operations may have taken effect. Bars and dots say more when the pointer rests on them; below stands the
//! order as a list, with the state after each operation. Every different time has a column; nothing is to scale.
//! Of a long history only the neighbourhood of the violation is drawn, and the page says what was left out.

mod layout;

use std::fmt::Write;

use self::layout::{Bar, Kind, Layout};
use crate::{HistoryOf, Model, Violation};

const COLUMN_WIDTH: f64 = 46.0;
const ROW_HEIGHT: f64 = 34.0;
const BAR_HEIGHT: f64 = 22.0;
/// Left of the first column, for the names of the clients.
const MARGIN: f64 = 84.0;
const LETTER_WIDTH: f64 = 6.6;

const HEAD: &str = "<!DOCTYPE html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Not linearizable</title><style>
body{font:14px/1.5 system-ui,sans-serif;margin:24px;color:#222;background:#fff}
.drawing{overflow-x:auto;border:1px solid #ddd}
svg text{font:11px ui-monospace,monospace;fill:#222} svg .number{fill:#fff;font-size:9px;text-anchor:middle}
.placed{fill:#d5ecd4;stroke:#4b8f49;color:#4b8f49} .unplaced{fill:#eee;stroke:#999;color:#777}
.stuck{fill:#f8c9c4;stroke:#c0271a;stroke-width:2.4;color:#c0271a;font-weight:bold}
.unknown{stroke-dasharray:5 3;fill-opacity:.55}
.row{stroke:#eee} .order{fill:none;stroke:#2b5c8a;stroke-opacity:.45} .dot{fill:#2b5c8a}
li{font:12px/1.6 ui-monospace,monospace} li i{color:#666}
</style></head><body>
<h1>Not linearizable</h1>
";

const LEGEND: &str = "<p><b class=\"placed\">Green:</b> has a place in the order of the numbers. \
<b class=\"stuck\">Red:</b> would have to be next, and cannot. <b class=\"unplaced\">Grey:</b> not reached. \
Dashed, without an end: never answered, so it may happen later, or never.</p>\n";

/// Draws why `history` is not linearizable. The string is an HTML page.
pub fn picture<M: Model>(model: &M, history: &HistoryOf<M>, violation: &Violation) -> String {
    let layout = Layout::new(model, history, violation);
    let (reason, left_out) = (escape(&violation.explain(model, history)), escape(&layout.left_out));
    let (drawing, list) = (drawing(&layout), list(&layout));
    format!(
        "{HEAD}<p>{reason}.</p>\n{LEGEND}<p>{left_out}.</p>\n\
         <div class=\"drawing\">\n{drawing}</div>\n<ol>\n{list}</ol>\n</body></html>\n"
    )
}

fn drawing(layout: &Layout) -> String {
    let width = MARGIN + COLUMN_WIDTH * layout.columns as f64 + 10.0;
    let height = ROW_HEIGHT * layout.rows as f64 + 10.0;
    let mut svg =
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\n");
    for (client, row) in &layout.clients {
        let (line, text) = (y(*row) - ROW_HEIGHT / 2.0, y(*row) + 4.0);
        let _ = writeln!(
            svg,
            "<line class=\"row\" x1=\"0\" x2=\"{width}\" y1=\"{line}\" y2=\"{line}\"/>\
             <text x=\"8\" y=\"{text}\">client {client}</text>"
        );
    }
    svg.extend(layout.bars.iter().map(drawn_bar));
    // On the lower edges of the bars, where they hide no word.
    let dots: Vec<(f64, f64, &Bar)> =
        layout.order().into_iter().map(|(at, bar)| (x(at), y(bar.row) + BAR_HEIGHT / 2.0, bar)).collect();
    let line: Vec<String> = dots.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(svg, "<polyline class=\"order\" points=\"{}\"/>", line.join(" "));
    svg.extend(dots.iter().map(|&(x, y, bar)| drawn_dot(x, y, bar)));
    svg + "</svg>\n"
}

fn drawn_bar(bar: &Bar) -> String {
    let (left, width) = (x(bar.from), x(bar.to) - x(bar.from));
    let (top, text_x, text_y) = (y(bar.row) - BAR_HEIGHT / 2.0, left + 5.0, y(bar.row) + 4.0);
    let class = match bar.kind {
        Kind::Placed { .. } => "placed",
        Kind::Stuck => "stuck",
        Kind::Unplaced => "unplaced",
    };
    let unknown = if bar.is_answered { "" } else { " unknown" };
    let label = escape(&shortened(&bar.label, ((width - 8.0) / LETTER_WIDTH) as usize));
    let title = escape(&bar.title);
    format!(
        "<g><title>{title}</title><rect class=\"{class}{unknown}\" x=\"{left:.1}\" y=\"{top:.1}\" \
         width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" rx=\"3\"/>\
         <text x=\"{text_x:.1}\" y=\"{text_y:.1}\">{label}</text></g>\n"
    )
}

fn drawn_dot(x: f64, y: f64, bar: &Bar) -> String {
    let Kind::Placed { number, .. } = &bar.kind else { return String::new() };
    let (title, text_y) = (escape(&bar.title), y + 3.0);
    format!(
        "<g><title>{title}</title><circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"7\"/>\
         <text class=\"number\" x=\"{x:.1}\" y=\"{text_y:.1}\">{number}</text></g>\n"
    )
}

fn list(layout: &Layout) -> String {
    let mut text = String::new();
    for bar in &layout.bars {
        let words = format!("client {}: {}", bar.client, escape(&bar.label));
        let _ = match &bar.kind {
            Kind::Placed { number, state } => {
                writeln!(text, "<li value=\"{number}\">{words} <i>then {}</i></li>", escape(state))
            }
            Kind::Stuck => writeln!(text, "<li class=\"stuck\">{words}: not possible</li>"),
            Kind::Unplaced => Ok(()),
        };
    }
    text
}

fn x(column: f64) -> f64 {
    MARGIN + COLUMN_WIDTH * column
}

/// The middle of a row.
fn y(row: usize) -> f64 {
    5.0 + ROW_HEIGHT * (row as f64 + 0.5)
}

/// At most `letters` of `text`, with a sign that there were more.
fn shortened(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters.saturating_sub(1)) {
        Some((end, last)) if end + last.len_utf8() < text.len() => format!("{}…", &text[..end]),
        _ => text.to_owned(),
    }
}

/// Text that cannot be taken for markup, in elements and in attributes.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}
