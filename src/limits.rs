//! Every bound of the relay, each with its origin.
//!
//! What a user may change has its default here and its name in the table of
//! variables; the rest is fixed on purpose.
//! `tests/limits.rs` says which test meets each at its edge.

use std::time::Duration;

/// How many calls may be made.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// One more after each of these.
    pub interval: Duration,
}

/// Bytes of a request body. A thousand observables of ordinary length take
/// about 100 kB; IROH has never been seen to send more than a few dozen.
pub const BODY: usize = 1024 * 1024;

/// Bytes of a request's head. Tokens are bounded at 10 kB ([`TOKEN`]), and other
/// servers accept 8 to 16 kB.
pub const HEAD: usize = 16 * 1024;

/// Header fields of a request. Browsers behind several proxies send about 40.
pub const FIELDS: usize = 100;

/// Time for a request's head, from its first byte or, for a new client, from
/// the connection. Loopback and data centres need milliseconds; this is for the
/// far end of a bad line.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a request's body after its head: a whole [`BODY`] at 1 Mbit/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a client may keep a connection without asking anything. Longer than
/// the pauses between an analyst's look-ups of one pasted report; XDR opens
/// another without ado.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Time for a client to take an answer, and one second more for each
/// [`WRITE_RATE`] bytes of it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// How much longer than a request's time its answer may take to come from
/// behind: writing a large one, on a machine that is busy.
pub const ANSWERING: Duration = Duration::from_secs(10);

/// Bytes a second at which even a large answer has to be taken (4 Mbit/s).
pub const WRITE_RATE: usize = 512 * 1024;

/// Time for a client to take the last answer and close its side, while what it
/// still sends is thrown away.
pub const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are thrown away for it.
pub const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// How long nobody has to have listened behind a guard before its socket is taken
/// for one that a killed process has left. To begin to listen takes an instant.
pub const ABANDONED: Duration = Duration::from_secs(60);

/// Clients whose connections nobody has taken yet: as many as Linux allows by itself
/// (`net.core.somaxconn`). With 511, as nginx has it, some of a thousand that come at
/// once are heard after a second.
pub const BACKLOG: i32 = 4_096;

/// Clients connected at once. XDR uses a handful; a thousand attackers leave
/// this many threads. Where a process may open 1,024 files, the usual limit, and
/// has 16 workers, there are 384.
pub const CONNECTIONS: usize = 512;

/// The fewest clients at once that are worth serving, when descriptors are few.
pub const CONNECTIONS_LEAST: usize = 16;

/// Descriptors that are used for other things than clients and calls: standard
/// streams, listeners, crawls, and some to spare.
pub const DESCRIPTORS: usize = 64;

/// Threads besides workers and those of clients: the front end, the probe, signals, the
/// watchdog and five of tiny_http; and four that come and go, as for a crawl, a name
/// look-up, or a connection that tiny_http has taken too early.
pub const THREADS: usize = 13;

/// Threads of the second listener: itself, the front end, the probe, five of tiny_http, two
/// workers, and two each for two clients.
pub const ADMIN_THREADS: usize = 14;

/// The fewest clients at once that are worth serving, when threads are few: one each
/// for XDR, a load balancer's probe and the service's own, and one more.
pub const CLIENTS_LEAST: usize = 4;

/// Stack of a thread that waits on a client. What it keeps is on the heap.
pub const CLIENT_STACK: usize = 128 * 1024;

/// Bytes of a body that every client may have in memory; what is more comes out
/// of [`BODIES`].
pub const BODY_SHARE: usize = 32 * 1024;

/// Bytes of larger bodies in memory at once, of all clients together.
pub const BODIES: usize = 16 * 1024 * 1024;

/// Bytes of answers that wait for their clients to take them; when there are
/// more, the client that has waited longest is cut off. One answer of the
/// largest usual size and a little.
pub const UNSENT: usize = 32 * 1024 * 1024;

/// Bytes of one answer: [`SIGHTINGS`] of twice the usual size in each respect.
pub const REPLY: usize = 128 * 1024 * 1024;

/// Pause after an accept that failed, as for want of descriptors: trying again
/// at once would fail again.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How often a waiting accept loop looks whether it is to stop.
pub const ACCEPT_POLL: Duration = Duration::from_millis(100);

/// How long a new client waits for the one that has to leave for it, whose thread
/// needs its turn on a processor and nothing else.
pub const EVICTION: Duration = Duration::from_secs(1);

/// How often at most a flood of the same trouble is told.
pub const TROUBLE: Duration = Duration::from_secs(60);

/// How often it is proven that connections are still accepted.
pub const PULSE: Duration = Duration::from_secs(1);

/// Without a proof for this long, they are not: ten have failed, and the
/// slowest machine needs milliseconds for one.
pub const PULSELESS: Duration = Duration::from_secs(10);

/// Observables of one request. IROH splits a pasted report into far smaller
/// groups; whatever asks for more is not an analyst.
pub const OBSERVABLES: usize = 1_000;

/// Bytes of one observable's value: four times the longest CTIM URI (2,048
/// characters), since a file path may be longer than any URL.
pub const VALUE: usize = 8 * 1024;

/// Bytes of an `Authorization` header's token. API Gateway allows 10,240 for
/// the whole head, so nothing longer ever worked where the original lived.
pub const TOKEN: usize = 10 * 1024;

/// Sightings per observable when neither environment nor token says otherwise:
/// the original's default.
pub const ENTITIES_DEFAULT: usize = 100;

/// The most sightings per observable that can be asked for: the upper end of
/// Cisco's own form ("50-1000").
pub const ENTITIES_MAX: usize = 1_000;

/// Sightings of one answer in all: a hundred observables at the default limit.
/// At 3 to 5 kB each that is some 50 MB, and the most that one request costs.
/// More observables share it evenly.
pub const SIGHTINGS: usize = 10_000;

/// Characters of a request's id that come from outside: a UUID is 36, a trace of
/// AWS 35.
pub const REQUEST_ID: usize = 64;

/// Requests waiting for a worker: a burst of so many clients at once is answered
/// whole, by one worker if need be. At 16 workers and a few milliseconds each that
/// takes less than a second, or the tenant is in trouble.
pub const QUEUE: usize = 128;

/// Requests that are being refused at once. Whoever announces a body and does not
/// send it holds up whoever reads it, for as long as it likes. As many as may be
/// connected elsewhere: what it costs them, a descriptor and two threads, is short
/// before this is.
pub const REFUSALS: usize = 512;

/// Worker threads. Most of a worker's time is spent waiting for a crawl, so
/// there are more of them than cores.
pub const WORKERS_DEFAULT: usize = 16;

/// The most workers that make sense for a small relay.
pub const WORKERS_MAX: usize = 256;

/// Time for one inbound request. API Gateway hangs up after 29 s and IROH
/// after about 60 s; Cisco's own relays use 25 s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);

/// What is left of an invocation's time when its answer has to be there: to
/// post 6 MB and to write a line of log, on the share of a processor that the
/// smallest function has.
pub const LAMBDA_MARGIN: Duration = Duration::from_secs(1);

/// Time for Lambda's Runtime API, on this machine, to take an answer.
pub const LAMBDA_POST: Duration = Duration::from_secs(10);

/// Bytes of an event: Lambda's quota for a request is 6 MB.
pub const LAMBDA_EVENT: u64 = 8 * 1024 * 1024;

/// Bytes of a head from the Runtime API. The longest header known holds 3.5 kB.
pub const LAMBDA_HEAD: usize = 32 * 1024;

/// Bytes that the warning about a shortened answer takes up, at the most.
pub const NOTICE: usize = 512;

/// Bytes of a reply to API Gateway or for a function URL: Lambda's quota is
/// 6 MB; the smaller reading of that.
pub const LAMBDA_REPLY: usize = 6_000_000;

/// Bytes of a reply to a load balancer, by its documentation.
pub const BALANCER_REPLY: usize = 1_000_000;

/// Bytes that a reply has besides the body, at the most.
pub const LAMBDA_REPLY_FRAME: usize = 512;

/// Time for a look-up from the shell, where nobody hangs up: a crawl of 50
/// pages at several seconds each.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Time to finish what is in flight after SIGTERM: one request's time and a
/// little, well under systemd's 90 s.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How soon the service asks itself again after it got no good answer. A queue
/// that is full has room again within a second, or something is wrong.
pub const WATCHDOG_RETRY: Duration = Duration::from_secs(1);

/// Bytes of its own answer that the service reads: the head, and a word.
pub const WATCHDOG_ANSWER: u64 = 4 * 1024;

/// The part of it that is kept for the door once the guard has closed: events
/// still to be told.
pub const DRAIN_REST: Duration = Duration::from_millis(500);

/// Time to end after `RELAY_DRAIN_TIMEOUT`, as systemd is asked for: the last events are
/// written, and memory is given back. With the default it is the unit's `TimeoutStopSec=`.
pub const STOP_REST: Duration = Duration::from_secs(10);

/// How far back alerts are loaded: the reach of advanced hunting, so that both
/// sources answer for the same window.
pub const LOOKBACK: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long an index is current without asking Microsoft again.
pub const FRESH_FOR: Duration = Duration::from_secs(30);

/// How far a refresh reaches back behind the last one, because evidence is
/// added to an alert minutes after its time stamp.
pub const OVERLAP: Duration = Duration::from_secs(15 * 60);

/// How long after a walk that left doubt all alerts are crawled again.
pub const RECRAWL: Duration = Duration::from_secs(10 * 60);

/// How often they are all crawled again without a doubt: Microsoft is known to
/// add alerts hours after the time that they bear, which no overlap catches.
pub const RECRAWL_ANYWAY: Duration = Duration::from_secs(24 * 3600);

/// Pages of that which are read after one refresh. Whoever waits for a refresh
/// waits for these too.
pub const SWEEP: usize = 3;

/// How long after a sync that failed nobody starts another. Whoever asks is told
/// why it failed.
pub const PAUSE: Duration = Duration::from_secs(5);

/// How long a walk that was broken off is taken up where it stood. After that
/// its beginning is too old, and links to further pages may have lapsed.
pub const RESUME: Duration = Duration::from_secs(10 * 60);

/// Alerts kept for a tenant.
pub const MAX_ALERTS: usize = 50_000;

/// Tenants kept at once.
pub const MAX_TENANTS: usize = 50;

/// `$top` of a list request: Microsoft's documented ceiling; larger values are
/// clamped to it.
pub const PAGE: usize = 1_000;

/// Pages of one crawl or refresh, of all its legs. At the default page of 100 rows
/// this is twice the alerts that are kept, and it ends a server that never stops.
pub const PAGES: usize = 1_000;

/// Pages in a row that bring no alert not seen before, after which a crawl
/// ends: an empty page with a link onward is legitimate, a circle is not.
pub const IDLE_PAGES: usize = 3;

/// `$skip` accepts no more (the service's constraint page).
pub const SKIP: usize = 500;

/// Bytes of one answer from Microsoft, after decompression. A page of 1,000
/// alerts with evidence is 6 MB as a rule.
pub const ANSWER: u64 = 64 * 1024 * 1024;

/// Calls for alerts: 140 in the busiest minute, where Microsoft allows 150 for
/// an application in a tenant, and 60 pages of a crawl without a pause.
pub const ALERT_CALLS: Rate = Rate { burst: 60, interval: Duration::from_millis(750) };

/// Calls for alerts that are asked for by observable or by id: 144 in the busiest
/// minute, and most of them at once, since a request comes with many questions
/// and goes away with its answers.
pub const BURST_CALLS: Rate = Rate { burst: 120, interval: Duration::from_millis(2_500) };

/// Hunting queries: 44 in the busiest minute, where Microsoft allows 45 for a
/// tenant.
pub const HUNTING_CALLS: Rate = Rate { burst: 20, interval: Duration::from_millis(2_500) };

/// How far back hunting reaches (Microsoft: 30 days of raw data).
pub const HUNTING_REACH: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes of a hunting query. Kusto takes 2,000,000 characters; hunting publishes
/// no bound of its own. A thousand ordinary observables are half of this.
pub const QUERY: usize = 256 * 1024;

/// Rows that are read of one hunting query. Microsoft would send 100,000, more
/// than a function with 128 MB can hold; the newest come first.
pub const HUNTING_ROWS: usize = 10_000;

/// Alerts that are read by their id for one request: ten batches.
pub const HUNTED_ALERTS: usize = 200;

/// How long an alert that was read by its id is not read again, so that asking
/// again brings what the first time had no time for.
pub const ALERT_KEPT: Duration = Duration::from_secs(5 * 60);

/// How many such alerts are kept for a tenant.
pub const ALERTS_KEPT: usize = 2_000;

/// Requests in one `$batch`, which takes no more.
pub const BATCH: usize = 20;

/// Calls that one request, or one crawl, has under way at once, where it has many
/// to make: the original made one, and more than a few would be throttled together.
pub const WIDTH: usize = 8;

/// Calls that crawls have under way at once, of all tenants together, beyond the
/// one that each always may: two at a time are as quick as can be. A page is 6 MB
/// as a rule, and never more are under way for one tenant than are together as
/// large as one [`ANSWER`].
pub const CRAWL_CALLS: usize = 2 * (WIDTH - 1);

/// Bytes of a URL. Front ends take 16 KiB for the whole head as a rule, with 2 or
/// 3 KiB of token in it; a question that is longer goes in the body of a batch.
pub const URL: usize = 8 * 1024;

/// Pages of one look-up in the legacy API: its `$top` holds for each provider, so
/// that one page is enough as a rule.
pub const LEGACY_PAGES: usize = 20;

/// Calls for tokens. No limit is published; one lasts an hour, so that more are
/// asked for only when they are refused.
pub const TOKEN_CALLS: Rate = Rate { burst: 10, interval: Duration::from_secs(2) };

/// Attempts at one call in all, while Microsoft says that it is busy.
pub const ATTEMPTS: u32 = 4;

/// The most that is waited before the second attempt when Microsoft does not say
/// for how long; before the third twice that, and so on.
pub const BACK_OFF: Duration = Duration::from_secs(1);

/// The longest wait for a turn that anybody sits out. A longer one is told, and
/// the call is made for whoever asks after it: XDR's time for a module is short.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The longest time that one `Retry-After` is believed.
pub const LONGEST_HOLD: Duration = Duration::from_secs(15 * 60);

/// How long a refusal of the credentials is remembered. Entra treats the same
/// failing request over and over as a loop (AADSTS50196), and an analyst's
/// dashboard asks a dozen times at once.
pub const REFUSAL: Duration = Duration::from_secs(10);

/// Time for one outbound call of a crawl, which no inbound request waits for
/// beyond its own deadline. Pages of several megabytes have been slow.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How much longer than its time a call may take on a busy machine before it is
/// certain that the process was stopped meanwhile.
pub const CALL_OVERRUN: Duration = Duration::from_secs(10);

/// Time to connect, DNS and TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Age at which an idle outbound connection is dropped: below the two minutes
/// of Microsoft's front ends.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// A token is renewed this long before it expires.
pub const TOKEN_MARGIN: Duration = Duration::from_secs(300);

/// How far clocks may differ when a token's times are checked.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The shortest key for HS256 that RFC 7518 section 3.2 allows, in bytes.
pub const HS256_KEY: usize = 32;

/// Bits of an RSA key: RFC 7518 section 3.3 wants 2,048 or more, and `ring`
/// takes no more than 8,192.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// Bytes of an RSA key's exponent; it is 65,537 nearly everywhere.
pub const RSA_EXPONENT: usize = 8;

/// Bytes of a key's name. Cisco's have 40.
pub const KEY_ID: usize = 256;

/// Keys of one host that are looked at. Cisco's publish one or two.
pub const KEYS: usize = 64;

/// How long a host's keys are used before they are fetched again, so that one
/// that was withdrawn does not count for ever.
pub const KEYS_FRESH: Duration = Duration::from_secs(3_600);

/// How often at most a host is asked for its keys, whatever tokens want.
pub const KEYS_PAUSE: Duration = Duration::from_secs(60);

/// Time to fetch a host's keys: less than a request's, which goes on after it.
pub const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that may wait for keys at once. Anybody can send a token that wants
/// an unknown one; a quarter of the usual workers may be lost to that, and only
/// while a host is slow.
pub const KEYS_WAITING: usize = 4;

/// Bytes of an answer to whom no token was shown: a grant, or a host's keys.
pub const SMALL_ANSWER: u64 = 256 * 1024;

/// Bytes of log lines that wait to be written: the lines of about 5,000 requests,
/// several seconds at the highest rate measured, while a terminal or a disk stands
/// still.
pub const LOG_QUEUE: usize = 1024 * 1024;

/// Time for the last lines to be written before the process ends, or before Lambda
/// may freeze it: half of [`LAMBDA_MARGIN`]. Whoever reads needs milliseconds.
pub const LOG_FLUSH: Duration = Duration::from_millis(500);

/// How soon after the first signal a second one still means the same: a terminal and
/// a process manager send theirs to the whole group and to the process as well.
pub const SIGNAL_REPEAT: Duration = Duration::from_secs(1);

/// Bytes of text from a stranger that a log line or a message may hold.
pub const FOREIGN_TEXT: usize = 200;

/// Targets of one sighting; an alert over hundreds of hosts is read in the
/// portal, to which the sighting links.
pub const TARGETS: usize = 50;

/// Relations of one sighting, for the same reason. XDR draws each as an edge.
pub const RELATIONS: usize = 100;

/// CTIM ShortString, in UTF-16 units.
pub const SHORT_STRING: usize = 1_024;

/// CTIM MedString and URI, in UTF-16 units.
pub const MED_STRING: usize = 2_048;

/// CTIM LongString, in UTF-16 units.
pub const LONG_STRING: usize = 5_000;

/// The longest path of a Unix socket: `sun_path` has 108 bytes with the zero at its
/// end (unix(7)).
pub const SOCKET_PATH: usize = 107;

/// How long `check` waits for whoever has an address to say whether it is a relay.
pub const CHECK_PROBE: Duration = Duration::from_secs(2);
