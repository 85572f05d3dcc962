//! What a picture of a violation shows.

mod common;

use common::{Input, NUMBERS, Numbered, Output, draw, judge};
use tenure_linear::{History, Model, Verdict, check, picture};

/// The page, without the style sheet.
fn page_of(history: &Numbered) -> String {
    let Verdict::Violation(violation) = judge(&NUMBERS, history) else { panic!("there is nothing to draw") };
    without_style(&picture(&NUMBERS, history, &violation))
}

fn without_style(page: &str) -> String {
    let (head, rest) = page.split_once("<style>").expect("a style");
    head.to_owned() + rest.split_once("</style>").expect("an end of the style").1
}

/// The text between each `start` and the `end` behind it.
fn all_between<'p>(page: &'p str, start: &str, end: &str) -> Vec<&'p str> {
    page.split(start).skip(1).map(|rest| rest.split(end).next().unwrap_or(rest)).collect()
}

/// Every element is closed by its own name, in order; what is in it is text.
fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in all_between(page, "<", ">") {
        let name = tag.split_whitespace().next().unwrap_or(tag);
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "in {page}"),
            None if tag.ends_with('/') || name == "meta" || name == "!DOCTYPE" => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} is left open in {page}");
}

#[test]
fn a_picture_shows_clients_order_states_and_what_is_stuck() {
    let (history, _) = draw(
        "
A  [wk1]  [wk2]
B  [wk3
C            [rk3]  [rk1]    [rk7]
",
    );
    let page = page_of(&history);
    assert_well_formed(&page);
    assert_eq!(all_between(&page, "<text x=\"8\"", "<").len(), 3, "a row for each client");
    assert_eq!(
        all_between(page.split_once("<ol>").expect("a list").1, "<li", "</li>"),
        [
            " value=\"1\">client 0: Write(&#39;k&#39;, 1) → Done <i>then {&#39;k&#39;: 1}</i>",
            " value=\"2\">client 0: Write(&#39;k&#39;, 2) → Done <i>then {&#39;k&#39;: 2}</i>",
            " value=\"3\">client 1: Write(&#39;k&#39;, 3) → ? <i>then {&#39;k&#39;: 3}</i>",
            " value=\"4\">client 2: Read(&#39;k&#39;) → Seen(3) <i>then {&#39;k&#39;: 3}</i>",
            " class=\"stuck\">client 2: Read(&#39;k&#39;) → Seen(1): not possible",
        ]
    );
    // A bar each: four in the order, of which one is unknown; what is stuck; what nobody came to.
    assert_eq!(
        all_between(&page, "<rect class=\"", "\""),
        ["placed", "placed", "placed unknown", "placed", "stuck", "unplaced"]
    );
    assert!(
        page.contains(
            "<title>client 1: Write(&#39;k&#39;, 3) → ?\ncalled at 3, never answered\n3 of the order"
        )
    );
    assert!(
        page.contains(
            "Read(&#39;k&#39;) → Seen(1) of client 2, called at 20 and answered at 24, fits nowhere"
        )
    );
}

/// The numbered dots come one after the other, and each is on its bar.
#[test]
fn the_order_runs_from_left_to_right_on_the_bars() {
    let (history, _) = draw(
        "
A  [wk1       ]    [rk2]
B  [wk2         ]
C  [rk1 ]     [rk1]      [rk1]
D [wk3
E          [rk2] [rk2]
",
    );
    let Verdict::Violation(violation) = judge(&NUMBERS, &history) else { panic!("there is nothing to draw") };
    let page = page_of(&history);
    let number = |text: &str| text.parse::<f64>().expect("a number");
    let attribute = |element: &str, name: &str| {
        number(all_between(element, &format!("{name}=\""), "\"").first().expect("the attribute"))
    };
    let dots: Vec<f64> = all_between(&page, "<circle", "/>").iter().map(|dot| attribute(dot, "cx")).collect();
    let bars: Vec<(f64, f64)> = all_between(&page, "<rect", "/>")
        .iter()
        .map(|bar| (attribute(bar, " x"), attribute(bar, " x") + attribute(bar, "width")))
        .collect();
    assert_eq!(dots.len(), violation.longest.len());
    assert!(dots.windows(2).all(|pair| pair[0] < pair[1]), "{dots:?}");
    for (dot, (left, right)) in dots.iter().zip(&bars) {
        assert!(left < dot && dot < right, "{dot} is not between {left} and {right}");
    }
}

#[test]
fn bars_of_one_client_do_not_cover_each_other() {
    // The client gives up on its first write, and goes on.
    let (history, _) = draw("A  [wk1  [wk2] [rk2] [rk0]");
    let page = page_of(&history);
    let rows = all_between(&page, "<rect", "/>");
    let row_of = |bar: &&str| all_between(bar, " y=\"", "\"")[0].to_owned();
    let unknown: Vec<&&str> = rows.iter().filter(|bar| bar.contains("unknown")).collect();
    assert_eq!(unknown.len(), 1);
    assert_eq!(rows.iter().filter(|bar| row_of(bar) == row_of(unknown[0])).count(), 1, "{page}");
}

#[test]
fn of_a_long_history_the_end_is_drawn() {
    let mut history = History::new();
    for at in 0..200 {
        let id = history.invoke(1, Input::Add('k', 1), at * 10);
        history.complete(id, Output::Done, at * 10 + 5);
        history.invoke(2 + at, Input::Write('k', 7), at * 10);
    }
    let read = history.invoke(1, Input::Read('k'), 2_000);
    history.complete(read, Output::Seen(1_000_000), 2_005);
    for at in 201..300 {
        let id = history.invoke(1, Input::Read('k'), at * 10);
        history.complete(id, Output::Seen(0), at * 10 + 5);
    }
    let Verdict::Violation(violation) = check(&NUMBERS, &history, 100_000_000) else { panic!("passed") };
    let page = without_style(&picture(&NUMBERS, &history, &violation));
    assert_well_formed(&page);
    assert!(all_between(&page, "<rect", "/>").len() < 80);
    assert!(page.contains("Not drawn: the first "), "the page says what is missing");
    assert!(page.contains("<li class=\"stuck\">"));
}

/// A model whose words are markup.
struct Rude;

impl Model for Rude {
    type State = String;
    type Input = String;
    type Output = ();
    type Key = ();

    fn initial(&self) -> String {
        "</title><script>\"'&".to_owned()
    }

    fn step(&self, _: &String, _: &String, _: Option<&()>) -> Option<String> {
        None
    }

    fn partition(&self, _: &String) -> Option<()> {
        Some(())
    }
}

#[test]
fn words_of_the_model_are_never_markup() {
    let mut history = History::new();
    let id = history.invoke(1, "<b onclick=\"x\">".to_owned(), 0);
    history.complete(id, (), 1);
    let Verdict::Violation(violation) = check(&Rude, &history, 10) else { panic!("passed") };
    let page = picture(&Rude, &history, &violation);
    assert!(!page.contains("<script") && !page.contains("<b onclick"));
    assert_well_formed(&page);
}

#[test]
fn the_same_history_gives_the_same_picture() {
    let drawing = "
A  [wk1   ]  [+k1
B    [wk2   ]    [rk5]
C   [ck12   [rk2]   [rk1]
";
    assert_eq!(page_of(&draw(drawing).0), page_of(&draw(drawing).0));
}
