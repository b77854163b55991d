//! Ten questions, which tell a learner whether the pattern is strong. The score is kept in the visitor's session.

mod page;
mod proof;
mod questions;

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Form, Router};
use cloakroom::{Error, Session};
use serde::Deserialize;

use super::visitors::Visitors;
use super::{Pages, broken, layout, unavailable};
pub(crate) use proof::Proof;
use questions::{Level, QUESTIONS};

/// The item of the demonstration site's session that holds the answers.
const ITEM: &str = "practice";

/// The choice for each question; `None` for one that is not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers(Vec<Option<usize>>);

impl Answers {
    /// The answers in a session. An item that is something else is no answer.
    fn of(session: &Session) -> Self {
        Self(session.get(ITEM).ok().flatten().unwrap_or_default())
    }

    pub(crate) fn choice(&self, question: usize) -> Option<usize> {
        self.0.get(question).copied().flatten()
    }

    /// Whether the answer to a question is right; `None` without one.
    pub(crate) fn is_right(&self, question: usize) -> Option<bool> {
        self.choice(question).map(|choice| choice == QUESTIONS[question].right)
    }

    /// How many of a level are right, and how many there are.
    pub(crate) fn score(&self, level: Level) -> (usize, usize) {
        let of_level = || (0..QUESTIONS.len()).filter(|question| QUESTIONS[*question].level == level);
        (of_level().filter(|question| self.is_right(*question) == Some(true)).count(), of_level().count())
    }

    /// The first question without an answer.
    pub(crate) fn next(&self) -> Option<usize> {
        (0..QUESTIONS.len()).find(|question| self.choice(*question).is_none())
    }
}

pub(crate) fn router() -> Router<Pages> {
    Router::new()
        .route("/practice", get(show))
        .route("/practice/answer", post(answer))
        .route("/practice/proof", post(prove))
        .route("/practice/again", post(again))
}

type Visitor = Result<Session, Error>;
type Sandboxes = State<Arc<Visitors>>;

/// Which question is asked for, from 1; without one, the next, or the result.
#[derive(Deserialize)]
struct Asked {
    question: Option<usize>,
}

impl Asked {
    /// Its place among the questions.
    fn place(&self) -> Option<usize> {
        self.question?.checked_sub(1).filter(|place| *place < QUESTIONS.len())
    }
}

async fn show(session: Visitor, State(visitors): Sandboxes, Query(asked): Query<Asked>) -> Response {
    let session = match session {
        Ok(session) => session,
        Err(error) => return unavailable(error),
    };
    let answers = Answers::of(&session);
    let Some(place) = asked.place().or_else(|| answers.next()) else {
        return layout::page("/practice", "Practice", page::result(&answers));
    };
    let desk = visitors.find(&session);
    let proof = desk.and_then(|desk| desk.proofs().get(&place).cloned());
    layout::page("/practice", "Practice", page::question(place, &answers, proof.as_ref()))
}

#[derive(Deserialize)]
struct Given {
    question: usize,
    choice: Option<usize>,
}

/// The first answer counts.
async fn answer(session: Visitor, Form(given): Form<Given>) -> Response {
    let session = match session {
        Ok(session) => session,
        Err(error) => return unavailable(error),
    };
    let place = Asked { question: Some(given.question) }.place();
    if let (Some(place), Some(choice)) = (place, given.choice.filter(|choice| *choice < 4)) {
        if session.get::<Vec<Option<usize>>>(ITEM).is_err() {
            session.remove_raw(ITEM);
        }
        let answered = session.update(ITEM, move |answers: Option<Vec<Option<usize>>>| {
            let mut answers = answers.unwrap_or_default();
            answers.resize(QUESTIONS.len(), None);
            answers[place].get_or_insert(choice);
            answers
        });
        if let Err(error) = answered {
            return unavailable(error.into());
        }
    }
    Redirect::to(&format!("/practice?question={}", given.question)).into_response()
}

async fn prove(session: Visitor, State(visitors): Sandboxes, Form(asked): Form<Asked>) -> Response {
    let session = match session {
        Ok(session) => session,
        Err(error) => return unavailable(error),
    };
    let Some(place) = asked.place() else { return Redirect::to("/practice").into_response() };
    let done = async {
        let desk = visitors.find_or_make(&session).await?;
        // One at a time for each visitor, as with the steps.
        let _turn = desk.course.lock().await;
        // Boxed: what an act does is deep.
        let proof = Box::pin(Proof::run(QUESTIONS[place].acts)).await?;
        desk.proofs().insert(place, proof);
        anyhow::Ok(())
    };
    match done.await {
        Ok(()) => Redirect::to(&format!("/practice?question={}#proof", place + 1)).into_response(),
        Err(error) => broken(&error),
    }
}

async fn again(session: Visitor) -> Response {
    match session {
        Ok(session) => {
            session.remove_raw(ITEM);
            Redirect::to("/practice").into_response()
        }
        Err(error) => unavailable(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::tests::start_trace;

    async fn prove(question: usize) -> Proof {
        start_trace();
        Proof::run(QUESTIONS[question - 1].acts).await.unwrap()
    }

    /// The bodies of the responses, or why there was none.
    fn said(proof: &Proof) -> Vec<String> {
        let mut said = Vec::new();
        for happening in &proof.happenings {
            match (&happening.failure, &happening.exchange) {
                (Some(failure), _) => said.push(format!("failed: {failure}")),
                (None, Some(exchange)) => said.push(exchange.body.trim_end().to_owned()),
                (None, None) => {}
            }
        }
        said
    }

    #[test]
    fn the_questions_are_complete() {
        let count = |level| QUESTIONS.iter().filter(|question| question.level == level).count();
        assert_eq!(Level::ALL.map(count), [3, 4, 3]);
        for question in &QUESTIONS {
            assert!(question.right < 4 && question.mistakes.len() == 2, "{}", question.text);
            let different: std::collections::BTreeSet<_> = question.choices.iter().collect();
            assert_eq!(different.len(), 4, "{}", question.text);
        }
        let places: std::collections::BTreeSet<_> = QUESTIONS.iter().map(|question| question.right).collect();
        assert_eq!(places.len(), 4, "who always ticks the same choice should not do well");
    }

    #[tokio::test]
    async fn each_proof_shows_its_answer() {
        const KEPT: &str = "key is in your session.";
        const FOUND: &str = "key is value";
        const NOTHING: &str = "There is no key in your session.";
        const DATA: &str = r#"{"key":"value"}"#;
        assert_eq!(said(&prove(1).await), [KEPT, FOUND, NOTHING]);
        let second = said(&prove(2).await);
        assert!(second[0].contains("there is no such setting") && second[1] == KEPT, "{second:?}");
        assert_eq!(prove(3).await.data, DATA);
        let fourth = prove(4).await;
        let tried = said(&fourth);
        assert!(tried[0].contains("no such table") && tried[1] == KEPT, "{tried:?}");
        assert_eq!(said(&prove(5).await), [KEPT, FOUND, NOTHING]);
        let sixth = said(&prove(6).await);
        assert!(sixth[0].contains("sessions are switched off") && sixth[1] == KEPT, "{sixth:?}");
        let seventh = prove(7).await;
        assert!(seventh.shelves[0].name.contains("FROM django_session"));
        assert_eq!(seventh.shelves[0].records[0].decoded.as_deref(), Ok(DATA));
        assert_eq!(said(&prove(8).await), [KEPT, FOUND]);
        let ninth = said(&prove(9).await);
        assert!(ninth[0].contains("does not exist; create it") && ninth.last().unwrap() == KEPT, "{ninth:?}");
        let tenth = prove(10).await;
        assert_eq!(said(&tenth), [KEPT, NOTHING, KEPT, NOTHING]);
        // The second time the browser had not closed and sent its cookie: it was the server that had forgotten.
        let last = tenth.happenings.last().unwrap().exchange.as_ref().unwrap();
        assert!(last.request.contains("cookie: sessionid="), "{}", last.request);
    }
}
