//! The ten questions.

use crate::chromium::{Browser, Kind};
use crate::site::Site;

/// The right choice of each question, from 1.
const RIGHT: [usize; 10] = [1, 2, 3, 3, 2, 4, 4, 3, 3, 1];

/// What "show me" has to show for each question.
const SHOWN: [&[&str]; 10] = [
    &["key is value", "There is no key in your session."],
    &["SESSION_STORAGE", "there is no such setting", "The directory "],
    &["change: set", "{\"key\":\"value\"}"],
    &["no such table: django_session", "the table django_session was created"],
    &["cookie: sessionid=", "There is no key in your session."],
    &["sessions are switched off", "key is in your session."],
    &["FROM django_session", "{\"key\":\"value\"}"],
    &["The browser still has sessionid", "key is value"],
    &["does not exist; create it", "key is in your session."],
    &["sessionid ended with the browser.", "load: miss"],
];

async fn answer(browser: &Browser, site: &Site, question: usize, choice: usize) {
    browser.go(&site.url(&format!("/practice?question={question}"))).await;
    browser.click(&format!(".choice:nth-of-type({choice}) input")).await;
    browser.press("form[action='/practice/answer'] button").await;
}

#[tokio::test]
async fn ten_questions_and_a_result() {
    let Some(browser) = Browser::open(Kind::default()).await else { return };
    let site = Site::start(&[]);
    for (place, right) in RIGHT.into_iter().enumerate() {
        let question = place + 1;
        // Two of the medium ones are answered wrong.
        let fails = question == 5 || question == 6;
        if question == 1 {
            browser.go(&site.url("/practice")).await;
            assert_eq!(browser.text(".question .quiet").await, "Question 1 of 10 · Easy");
            browser.picture("practice-question").await;
        }
        answer(&browser, &site, question, if fails { right % 4 + 1 } else { right }).await;
        let said = browser.text(".question .notice").await;
        assert!(said.starts_with(if fails { "Wrong." } else { "Right." }), "question {question}: {said}");
        assert_eq!(browser.count(".choices .good").await, 1);
        assert_eq!(browser.count(".choices .bad").await, usize::from(fails));
        assert_eq!(browser.count(".question li").await, 4 + 2, "four choices and two common mistakes");

        browser.press("form[action='/practice/proof'] button").await;
        let proof = browser.text("#proof").await;
        for wanted in SHOWN[place] {
            assert!(proof.contains(wanted), "question {question}: {wanted}: {proof}");
        }
        if question == 4 {
            browser.go(&site.url("/practice?question=4")).await;
            browser.resize(1280, 1500).await;
            browser.picture("practice-proof").await;
            browser.resize(1280, 960).await;
        }
    }
    browser.press(".question a.button.primary").await;
    assert_eq!(browser.text(".question h2").await, "8 of 10 are right");
    for (row, wanted) in ["Easy 3 of 3", "Medium 2 of 4", "Hard 3 of 3"].into_iter().enumerate() {
        assert_eq!(browser.text(&format!(".score tbody tr:nth-child({})", row + 1)).await, wanted);
    }
    browser.picture("practice-result").await;

    // The score is in the session: another visitor starts from nothing, and a second answer does not count.
    let other = Browser::open(Kind::default()).await.expect("a second browser");
    other.go(&site.url("/practice")).await;
    assert_eq!(other.text(".question .quiet").await, "Question 1 of 10 · Easy");
    other.close().await;
    browser.press("form[action='/practice/again'] button").await;
    assert_eq!(browser.text(".question .quiet").await, "Question 1 of 10 · Easy");
    browser.close().await;
}
