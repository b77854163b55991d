//! A question, what there is to say to an answer, and the result.

use maud::{Markup, html};

use super::questions::{Level, QUESTIONS, Question};
use super::{Answers, Proof};
use crate::pages::evidence;
use crate::pages::flow::{cross, tick};

/// One question; with the answer, if it is given, and with the proof, if it was asked for.
pub(crate) fn question(place: usize, answers: &Answers, proof: Option<&Proof>) -> Markup {
    let question = &QUESTIONS[place];
    let choice = answers.choice(place);
    html! {
        h1 { "Practice" }
        (progress(Some(place), answers))
        article.question {
            p.quiet { "Question " (place + 1) " of " (QUESTIONS.len()) " · " (question.level.name()) }
            @match choice {
                None => (ask(place, question)),
                Some(choice) => (told(place, question, choice, answers)),
            }
        }
        @if let (Some(_), Some(proof)) = (choice, proof) {
            section id="proof" {
                h2 { "What happened in a sandbox just now" }
                @for happening in &proof.happenings { (evidence::details(happening)) }
                h3 { "Session data at the end" }
                pre.panel.data { (proof.data) }
                @if !proof.shelves.is_empty() { h3 { "What is stored then" } (evidence::shelves(&proof.shelves)) }
            }
        }
    }
}

fn ask(place: usize, question: &Question) -> Markup {
    html! {
        form method="post" action="/practice/answer" {
            input type="hidden" name="question" value=(place + 1);
            fieldset {
                legend { (question.text) }
                @for (choice, text) in question.choices.iter().enumerate() {
                    label.choice { input type="radio" name="choice" value=(choice) required; span { (text) } }
                }
            }
            div.buttons { button.primary { "Answer" } }
        }
    }
}

fn told(place: usize, question: &Question, choice: usize, answers: &Answers) -> Markup {
    let right = choice == question.right;
    html! {
        h2 { (question.text) }
        ul.choices {
            @for (at, text) in question.choices.iter().enumerate() {
                li.good[at == question.right].bad[at == choice && !right] {
                    span.sign { @if at == question.right { (tick()) } @else if at == choice { (cross()) } }
                    span { (text)
                        small { @match (at == choice, at == question.right) {
                            (true, true) => " your answer, right",
                            (true, false) => " your answer",
                            (false, true) => " right",
                            (false, false) => "",
                        } } }
                }
            }
        }
        div.notice.bad[!right].good[right] role="status" {
            p { strong { @if right { "Right." } @else { "Wrong." } } " " (with_code(question.why)) }
        }
        h3 { "Common mistakes" }
        ul { @for mistake in question.mistakes { li { (with_code(mistake)) } } }
        div.buttons {
            @match answers.next() {
                Some(next) => a.button.primary href={ "/practice?question=" (next + 1) } { "Next question" },
                None => a.button.primary href="/practice" { "Result" },
            }
            form method="post" action="/practice/proof" {
                input type="hidden" name="question" value=(place + 1);
                button { "Show me" }
            }
        }
    }
}

/// Where the learner stands: each question, answered or not.
fn progress(here: Option<usize>, answers: &Answers) -> Markup {
    html! {
        ol.progress aria-label="The questions" {
            @for place in 0..QUESTIONS.len() {
                @let right = answers.is_right(place);
                li.good[right == Some(true)].bad[right == Some(false)] {
                    a href={ "/practice?question=" (place + 1) } aria-current=[(here == Some(place)).then_some("step")] {
                        span.said { "Question " } (place + 1)
                        @match right {
                            Some(true) => span.said { ", right" },
                            Some(false) => span.said { ", wrong" },
                            None => {}
                        }
                    }
                }
            }
        }
    }
}

/// The result by level.
pub(crate) fn result(answers: &Answers) -> Markup {
    let right: usize = Level::ALL.iter().map(|level| answers.score(*level).0).sum();
    let verdict = match right {
        10 => "The pattern is strong.",
        7..10 => "The pattern is nearly strong: look at the red ones once more.",
        _ => "The pattern is not strong yet. Walk through the steps, and come back.",
    };
    html! {
        h1 { "Practice" }
        (progress(None, answers))
        article.question {
            h2 { (right) " of " (QUESTIONS.len()) " are right" }
            p.lead { (verdict) }
            table.score {
                thead { tr { th scope="col" { "Level" } th scope="col" { "Right" } } }
                tbody {
                    @for level in Level::ALL {
                        @let (right, all) = answers.score(level);
                        tr {
                            th scope="row" { (level.name()) }
                            td { meter min="0" max=(all) value=(right) { } " " (right) " of " (all) }
                        }
                    }
                }
            }
            div.buttons {
                form method="post" action="/practice/again" { button.primary { "Practise again" } }
                a.button href="/" { "Step by step" }
            }
        }
    }
}

/// Text with code between backticks.
fn with_code(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}
