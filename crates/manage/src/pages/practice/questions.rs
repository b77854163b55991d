//! The questions, and for each what to do in a sandbox to see the answer.

use super::proof::Act::{self, *};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Easy,
    Medium,
    Hard,
}

impl Level {
    pub(crate) const ALL: [Self; 3] = [Self::Easy, Self::Medium, Self::Hard];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Easy => "Easy",
            Self::Medium => "Medium",
            Self::Hard => "Hard",
        }
    }
}

pub(crate) struct Question {
    pub(crate) level: Level,
    pub(crate) text: &'static str,
    pub(crate) choices: [&'static str; 4],
    /// The place of the right choice.
    pub(crate) right: usize,
    pub(crate) why: &'static str,
    pub(crate) mistakes: &'static [&'static str],
    /// What shows it.
    pub(crate) acts: &'static [Act],
}

pub(crate) const QUESTIONS: [Question; 10] = [
    Question {
        level: Level::Easy,
        text: "What are sessions for?",
        choices: [
            "To keep data about one visitor from one request to the next",
            "To make pages faster by keeping them for everybody",
            "To encrypt what travels between browser and server",
            "To keep the passwords of all users in one place",
        ],
        right: 0,
        why: "HTTP forgets a visitor after each response. A session is a dictionary that the next request of the same \
              browser finds again, and that of nobody else.",
        mistakes: &[
            "Taking a session for a cache: a cache holds what is the same for all, a session belongs to one visitor.",
            "Taking a session for a login: who has not signed in can have a session too. A login is one of the things \
             that are kept in it.",
        ],
        acts: &[Start("SESSION_ENGINE = \"cache\""), Assign, Retrieve, SomebodyRetrieves],
    },
    Question {
        level: Level::Easy,
        text: "Which setting chooses where session data is stored?",
        choices: ["SESSION_COOKIE_NAME", "SESSION_ENGINE", "SESSION_SAVE_EVERY_REQUEST", "SESSION_STORAGE"],
        right: 1,
        why: "SESSION_ENGINE names the place: db, cache, cached_db, file or signed_cookies. Nothing else in a view \
              changes with it.",
        mistakes: &[
            "SESSION_COOKIE_NAME is the name of the cookie that carries the key, wherever the data is.",
            "There is no SESSION_STORAGE: an unknown SESSION_ name is a problem that the settings report.",
        ],
        acts: &[Start("SESSION_STORAGE = \"file\""), Start("SESSION_ENGINE = \"file\""), Assign],
    },
    Question {
        level: Level::Easy,
        text: "A visitor without a session comes to a view that does session['key'] = 'value'. What is the session's \
               data after that request?",
        choices: ["{}", "{\"value\": \"key\"}", "{\"key\": \"value\"}", "\"value\""],
        right: 2,
        why: "An assignment marks the session as changed. When the response is ready the data is saved, and a cookie \
              with the session's key goes along.",
        mistakes: &[
            "Waiting for somebody to call save(): an assignment is enough.",
            "In Django, a change inside a value, as in session['cart'].append(item), is not noticed. Assign the value \
             anew, or here use update, which also loses no change of another request.",
        ],
        acts: &[Start("SESSION_ENGINE = \"db\""), Migrate, Assign],
    },
    Question {
        level: Level::Medium,
        text: "With the database engine, when is the table django_session created?",
        choices: [
            "When the first visitor comes",
            "When SESSION_ENGINE is set to db",
            "When the migrations are run",
            "Whenever the server starts",
        ],
        right: 2,
        why: "The table is made once, by `cloakroom migrate` or by Django's own migrate. Until then, whatever asks for a \
              stored session fails.",
        mistakes: &[
            "Setting the engine and starting the site at once: the first write then says that there is no such table.",
            "Migrating for the engines cache, file or signed_cookies: they have no table.",
        ],
        acts: &[Start("SESSION_ENGINE = \"db\""), Assign, Migrate, Assign],
    },
    Question {
        level: Level::Medium,
        text: "How does the data find its way back to the same user?",
        choices: [
            "By the address of the user's computer",
            "By a cookie with the session's key, which the browser sends along",
            "By hidden fields in every form",
            "By the user's name, after a login",
        ],
        right: 1,
        why: "The response sets a cookie, sessionid, with a random key. The browser sends it with each request, and the \
              server looks the data up under it. The data itself stays on the server, except with signed_cookies.",
        mistakes: &[
            "Thinking that the data is in the cookie: with a database, a cache or files it is only the key.",
            "Forgetting that whoever has the key has the session: hence HttpOnly, Secure, and a new key at each login.",
        ],
        acts: &[Start("SESSION_ENGINE = \"db\""), Migrate, Assign, Retrieve, SomebodyRetrieves],
    },
    Question {
        level: Level::Medium,
        text: "Why must the session app be named in INSTALLED_APPS?",
        choices: [
            "So that templates can show the session",
            "Only for the admin site",
            "It need not be, if SESSION_ENGINE is set",
            "It switches sessions on: without it, using one is an error",
        ],
        right: 3,
        why: "The name in INSTALLED_APPS is what switches sessions on, and what `migrate` looks for in Django. The engine \
              only says where they are kept.",
        mistakes: &[
            "Choosing an engine and leaving the app out: the setting then has no effect at all.",
            "Here INSTALLED_APPS may be left out, and sessions are on. If it is given, it has to name \
             django.contrib.sessions or cloakroom.",
        ],
        acts: &[
            Start("INSTALLED_APPS = []\nSESSION_ENGINE = \"cache\""),
            Assign,
            Start("SESSION_ENGINE = \"cache\""),
            Assign,
        ],
    },
    Question {
        level: Level::Medium,
        text: "What happens if SESSION_ENGINE is not set?",
        choices: [
            "The site does not start",
            "Sessions live in the memory of the process",
            "Sessions live in the browser's cookie",
            "Sessions live in the database: that is the default",
        ],
        right: 3,
        why: "The default is django.contrib.sessions.backends.db, the table django_session. So the migrations have to be \
              run, though nobody named an engine.",
        mistakes: &[
            "Expecting an error: only a wrong name is one.",
            "Forgetting to migrate because there is no engine in the settings.",
        ],
        acts: &[Start(""), Migrate, Assign],
    },
    Question {
        level: Level::Hard,
        text: "SESSION_ENGINE is cache, SESSION_COOKIE_AGE is two weeks, SESSION_EXPIRE_AT_BROWSER_CLOSE is false. A \
               visitor closes the browser, and opens it again an hour later. What does the site find?",
        choices: [
            "Nothing: the cache is emptied when the browser closes",
            "Nothing: the cookie ended with the browser",
            "The same session, as long as the cache still has it",
            "An error: the cache engine needs a session that ends with the browser",
        ],
        right: 2,
        why: "The cookie has a Max-Age of two weeks, so the browser still has it, and the cache on the server knows \
              nothing of browsers. Only if the cache lost the entry, by a restart or for want of room, is the session gone.",
        mistakes: &[
            "Mixing up two ends: that of the cookie in the browser, and that of the record on the server.",
            "Trusting a cache with what must not be lost: cached_db keeps a row behind it.",
        ],
        acts: &[
            Start("SESSION_ENGINE = \"cache\"\nSESSION_COOKIE_AGE = 1209600\nSESSION_EXPIRE_AT_BROWSER_CLOSE = false"),
            Assign,
            Reopen,
            Wait(3_600),
            Retrieve,
        ],
    },
    Question {
        level: Level::Hard,
        text: "SESSION_ENGINE is file, and SESSION_FILE_PATH names a directory that does not exist. Why does that fail?",
        choices: [
            "Because the migrations were not run",
            "Because the file engine also needs a database",
            "Because the engine writes into the directory, and does not make it: somebody has to",
            "It does not: the data goes into the cookie instead",
        ],
        right: 2,
        why: "Each session is a file in that directory, and the engine makes files, not directories. Cloakroom looks when \
              the site starts, and says what to do; Django fails at the first save.",
        mistakes: &[
            "Making the directory, but as another user: the site has to be allowed to write there.",
            "Putting it where the system clears up, such as /tmp: everybody is signed out then.",
        ],
        acts: &[
            Start("SESSION_ENGINE = \"file\"\nSESSION_FILE_PATH = \"MISSING\""),
            Assign,
            Start("SESSION_ENGINE = \"file\""),
            Assign,
        ],
    },
    Question {
        level: Level::Hard,
        text: "A session is to end when the browser is closed, and after an hour if it stays open. Which two settings \
               together do that?",
        choices: [
            "SESSION_EXPIRE_AT_BROWSER_CLOSE = true and SESSION_COOKIE_AGE = 3600",
            "SESSION_SAVE_EVERY_REQUEST = true and SESSION_COOKIE_AGE = 3600",
            "SESSION_EXPIRE_AT_BROWSER_CLOSE = true and SESSION_COOKIE_SECURE = true",
            "SESSION_ENGINE = \"cache\" and SESSION_COOKIE_AGE = 0",
        ],
        right: 0,
        why: "The first leaves Max-Age out of the cookie, so the browser drops it when it closes. The second is then the \
              lifetime on the server, counted from the last save.",
        mistakes: &[
            "Thinking that SESSION_COOKIE_AGE means nothing when the cookie ends with the browser: the record still \
             lives as long as it says.",
            "Counting the hour from the last visit: without SESSION_SAVE_EVERY_REQUEST it counts from the last change.",
        ],
        acts: &[
            Start("SESSION_ENGINE = \"cache\"\nSESSION_EXPIRE_AT_BROWSER_CLOSE = true\nSESSION_COOKIE_AGE = 3600"),
            Assign,
            Reopen,
            Retrieve,
            Assign,
            Wait(3_601),
            Retrieve,
        ],
    },
];
