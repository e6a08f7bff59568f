//! Every limit of the relay, and the reason for its value.
//!
//! Configurable limits have their default here and their variable in the
//! configuration table; the others are fixed on purpose. `tests/relay/limits.rs` names
//! the test that checks each limit at its edge.

use std::time::Duration;

/// A rate limit for calls.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Calls that may be made at once.
    pub burst: u32,
    /// Time after which one more call is allowed.
    pub interval: Duration,
}

/// The largest request body, in bytes. A thousand observables of ordinary length
/// take about 100 kB; IROH has never been seen to send more than a few dozen.
pub const BODY: usize = 1024 * 1024;

/// The largest request head, in bytes. Tokens are limited to 10 kB ([`TOKEN`]), and
/// other servers accept 8 to 16 kB.
pub const HEAD: usize = 16 * 1024;

/// Most header fields of a request. Browsers behind several proxies send about 40.
pub const HEADERS_MAX: usize = 100;

/// Time to receive a request head, from its first byte or, on a new connection, from
/// the connect. Data centres need milliseconds; the rest allows for a slow line.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time to receive a request body after its head: a full [`BODY`] at 1 Mbit/s.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(8);

/// How long a connection may be idle between requests. Longer than the pauses between
/// the look-ups of one pasted report; XDR simply opens a new connection.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Time for a client to receive a response, plus one second per [`WRITE_RATE`] bytes.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// Time beyond a request's timeout in which the front end still waits for the HTTP
/// server's response: a large one takes long to write on a busy machine.
pub const BACKEND_GRACE: Duration = Duration::from_secs(10);

/// The slowest rate at which a client may read a response, in bytes per second
/// (4 Mbit/s).
pub const WRITE_RATE: usize = 512 * 1024;

/// Time for a client to read the last response and close its side, while further
/// input is discarded.
pub const LINGER: Duration = Duration::from_secs(2);

/// Bytes discarded while lingering.
pub const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Age at which a front end's socket without a listener counts as left behind by a
/// killed process. Starting to listen takes an instant.
pub const STALE_SOCKET_AGE: Duration = Duration::from_secs(60);

/// The listen backlog: Linux's default of `net.core.somaxconn`. With nginx's 511, some
/// of a thousand simultaneous clients wait a second for a retransmitted SYN.
pub const BACKLOG: i32 = 4_096;

/// Most client connections, and so threads for them. XDR uses a handful. With the
/// usual limit of 1,024 open files and 16 workers, there are 352.
pub const CONNECTIONS: usize = 512;

/// The fewest client connections allowed when the limit of open files is low.
pub const CONNECTIONS_LEAST: usize = 16;

/// File descriptors for other uses than clients and calls: standard streams,
/// listeners, crawls, [`REJECTIONS`], and some to spare.
pub const DESCRIPTORS: usize = 96;

/// Threads besides workers and those of clients: the front end, the probe, signals, the
/// watchdog and five of tiny_http; and four that come and go, as for a crawl, a name
/// look-up, or a connection that tiny_http has taken too early.
pub const THREADS: usize = 13;

/// Threads of the second listener: itself, the front end, the probe, five of tiny_http, two
/// workers, and two each for two clients.
pub const ADMIN_THREADS: usize = 14;

/// The fewest client connections allowed when threads are few: XDR, a load balancer's probe and
/// the service's own.
pub const CLIENTS_LEAST: usize = 3;

/// Stack size of a client's thread; its buffers are on the heap.
pub const CLIENT_STACK: usize = 128 * 1024;

/// Bytes of a body that every client may have in memory; larger bodies count against
/// [`BODIES`].
pub const BODY_SHARE: usize = 32 * 1024;

/// Bytes of larger bodies in memory, for all clients together.
pub const BODIES: usize = 16 * 1024 * 1024;

/// Bytes of unsent responses, for all clients together. Above this, the client that
/// has been reading longest is disconnected. Holds one response of the largest usual
/// size.
pub const UNSENT: usize = 32 * 1024 * 1024;

/// The largest response, in bytes: [`SIGHTINGS`] of over twice the usual size.
pub const RESPONSE_BYTES: usize = 128 * 1024 * 1024;

/// Rejected clients whose connections linger at once. An older one is closed, which resets it
/// only if its client still sends.
pub const REJECTIONS: usize = 32;

/// Attempts to start a thread, the first included.
pub const THREAD_ATTEMPTS: u32 = 5;

/// Pause between them: a thread that ends counts for a few milliseconds longer.
pub const THREAD_PAUSE: Duration = Duration::from_millis(20);

/// How long to wait until the threads that were started to count them are gone. They need to be
/// scheduled once.
pub const THREADS_GONE: Duration = Duration::from_secs(2);

/// Pause after a failed accept: without free descriptors, an immediate retry would
/// fail again.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How often a waiting accept loop checks whether to stop.
pub const ACCEPT_POLL: Duration = Duration::from_millis(100);

/// How long a new client waits for the evicted one's slot. The evicted client's thread
/// needs only to be scheduled.
pub const EVICTION_WAIT: Duration = Duration::from_secs(1);

/// Shortest interval between log lines about the same recurring trouble.
pub const REPEATED_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How often the relay checks that connections are still accepted.
pub const ACCEPT_PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// After this long without a successful check, connections are not accepted any more:
/// ten checks have failed, and even a slow machine needs milliseconds for one.
pub const ACCEPT_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most observables of one request. IROH splits a pasted report into far smaller
/// groups.
pub const OBSERVABLES: usize = 1_000;

/// The longest value of an observable, in bytes: four times the longest CTIM URI
/// (2,048 characters), since a file path may be longer than any URL.
pub const VALUE: usize = 8 * 1024;

/// The longest token, in bytes. API Gateway, where the original ran, allows 10,240 for
/// the whole head.
pub const TOKEN: usize = 10 * 1024;

/// Default of `CTR_ENTITIES_LIMIT`, sightings per observable; the original's default.
pub const ENTITIES_DEFAULT: usize = 100;

/// Maximum of `CTR_ENTITIES_LIMIT`: the upper end of Cisco's own form ("50-1000").
pub const ENTITIES_MAX: usize = 1_000;

/// Most sightings in one response: a hundred observables at the default limit. At 3
/// to 5 kB each that is about 50 MB. More observables share it evenly.
pub const SIGHTINGS: usize = 10_000;

/// Time to search the alerts in memory, even if the deadline has passed while they were
/// loaded. A thousand values that every alert has take about a second.
pub const SEARCH_TIME: Duration = Duration::from_secs(2);

/// The longest request ID accepted from a caller: a UUID has 36 characters, an AWS
/// trace ID 35.
pub const REQUEST_ID: usize = 64;

/// Most requests waiting for a worker, so a burst of that many clients is answered
/// without a 503. With 16 workers and a few milliseconds each, a full queue empties
/// within a second.
pub const QUEUE: usize = 128;

/// Most requests being rejected at once. A client that announces a body and does not
/// send it blocks the thread that reads it. As many as [`CONNECTIONS`]: descriptors
/// and threads run out before this.
pub const OVERFLOW_REQUESTS: usize = 512;

/// Default of `RELAY_WORKERS`. Workers mostly wait for a crawl, so there are more of
/// them than cores.
pub const WORKERS_DEFAULT: usize = 16;

/// Maximum of `RELAY_WORKERS`; more makes no sense for a small relay.
pub const WORKERS_MAX: usize = 256;

/// Default of `RELAY_REQUEST_TIMEOUT`. API Gateway gives up after 29 s and IROH after
/// about 60 s; Cisco's own relays use 25 s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(25);

/// Time reserved at the end of a Lambda invocation: to post 6 MB and write a log line
/// on the fraction of a CPU that the smallest function has.
pub const LAMBDA_MARGIN: Duration = Duration::from_secs(1);

/// Time to post a response to Lambda's Runtime API, which is on the same machine.
pub const LAMBDA_POST: Duration = Duration::from_secs(10);

/// The largest Lambda event, in bytes: Lambda's quota for a request is 6 MB.
pub const LAMBDA_EVENT: u64 = 8 * 1024 * 1024;

/// The largest response head from the Runtime API, in bytes. The longest known header
/// has 3.5 kB.
pub const LAMBDA_HEAD: usize = 32 * 1024;

/// Bytes reserved for the warning about a shortened response.
pub const TRUNCATION_WARNING_BYTES: usize = 512;

/// The largest reply to API Gateway or a function URL, in bytes: Lambda's quota is
/// 6 MB, read as the smaller number.
pub const LAMBDA_REPLY: usize = 6_000_000;

/// The largest reply to a load balancer, in bytes, by its documentation.
pub const BALANCER_REPLY: usize = 1_000_000;

/// Bytes reserved for a reply's JSON around the body.
pub const LAMBDA_REPLY_FRAME: usize = 512;

/// Time for a look-up from the shell, where no client gives up: a crawl of 50 pages at
/// several seconds each.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// Default of `RELAY_DRAIN_TIMEOUT`, to finish requests in flight after SIGTERM: a
/// little more than a request's timeout, and well under systemd's 90 s.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Delay before the watchdog repeats a failed self-check. A full queue has room again
/// within a second, unless something is wrong.
pub const WATCHDOG_RETRY: Duration = Duration::from_secs(1);

/// Bytes of the self-check's response that are read: the head, and a word.
pub const WATCHDOG_ANSWER: u64 = 4 * 1024;

/// The share of `RELAY_DRAIN_TIMEOUT` reserved for the HTTP server after the front end
/// has closed, to write its last log lines.
pub const DRAIN_REST: Duration = Duration::from_millis(500);

/// Time to exit after `RELAY_DRAIN_TIMEOUT`, requested from systemd: to write the last
/// log lines and free memory. With the default the sum is the unit's `TimeoutStopSec=`.
pub const STOP_REST: Duration = Duration::from_secs(10);

/// Default of `RELAY_LOOKBACK`: the reach of advanced hunting, so both sources cover the
/// same window.
pub const LOOKBACK: Duration = Duration::from_secs(30 * 24 * 3600);

/// Default of `RELAY_FRESH_FOR`: the age up to which an index is used without a refresh.
pub const FRESH_FOR: Duration = Duration::from_secs(30);

/// Overlap of a refresh with the last one, because alerts appear, and evidence is added to them,
/// minutes after their time stamp.
pub const OVERLAP: Duration = Duration::from_secs(60 * 60);

/// The overlap where the longer one would cost another page at every refresh.
pub const OVERLAP_MIN: Duration = Duration::from_secs(15 * 60);

/// Delay before all alerts are crawled again because some may be missing. The crawl has ended
/// within ten minutes, unless it is long.
pub const RECRAWL_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Interval at which all alerts are crawled again in any case: Microsoft is known to add
/// alerts hours after their time stamp, which no overlap catches.
pub const FULL_RECRAWL_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Delay before a failed sync is repeated. Requests in between report its error.
pub const SYNC_RETRY_DELAY: Duration = Duration::from_secs(5);

/// How long after its last page an interrupted crawl can be resumed; much longer than
/// [`RETRY_AFTER_MAX`]. After a day, a refresh of all that has changed would cost as much as a new
/// crawl.
pub const CRAWL_RESUME_WINDOW: Duration = Duration::from_secs(24 * 3600);

/// Default of `RELAY_MAX_ALERTS`: alerts kept per tenant.
pub const MAX_ALERTS: usize = 50_000;

/// Default of `RELAY_MAX_TENANTS`: tenants in memory.
pub const MAX_TENANTS: usize = 50;

/// `$top` of a list request: Microsoft's documented maximum; larger values are clamped
/// to it.
pub const PAGE_SIZE: usize = 1_000;

/// Most pages of one crawl or refresh, for all its segments. At the default page of 100
/// rows this is twice the alerts kept; it stops a list that never ends.
pub const PAGES_MAX: usize = 1_000;

/// Consecutive pages without a new alert after which a crawl ends. An empty page with a
/// next link is legitimate, an endless loop of links is not.
pub const IDLE_PAGES: usize = 3;

/// The largest `$skip` that the service documents.
pub const ODATA_SKIP_MAX: usize = 500;

/// The largest response from Microsoft, in bytes after decompression. A page of 1,000
/// alerts with evidence is usually 6 MB.
pub const GRAPH_RESPONSE_BYTES: u64 = 64 * 1024 * 1024;

/// Rate limit of list calls: at most 140 in a minute, where Microsoft allows 150 per
/// application and tenant; 60 pages of a crawl without a pause.
pub const ALERT_CALLS: Rate = Rate { burst: 60, interval: Duration::from_millis(750) };

/// Rate limit of calls by observable or alert ID: at most 144 in a minute, most of them
/// at once, since one request needs many calls before its deadline.
pub const BURST_CALLS: Rate = Rate { burst: 120, interval: Duration::from_millis(2_500) };

/// Rate limit of hunting queries: at most 44 in a minute, where Microsoft allows 45 per
/// tenant.
pub const HUNTING_CALLS: Rate = Rate { burst: 20, interval: Duration::from_millis(2_500) };

/// How far back advanced hunting reaches (Microsoft: 30 days of raw data).
pub const HUNTING_REACH: Duration = Duration::from_secs(30 * 24 * 3600);

/// The longest hunting query, in bytes. Kusto accepts 2,000,000 characters; hunting
/// documents no limit. A thousand ordinary observables need half of this.
pub const QUERY: usize = 256 * 1024;

/// Most rows read of one hunting query, newest first. Microsoft would send 100,000,
/// more than a Lambda function with 128 MB can hold.
pub const HUNTING_ROWS: usize = 10_000;

/// Most alerts fetched by ID for one request: ten batches.
pub const HUNTING_ALERTS_MAX: usize = 200;

/// How long an alert fetched by ID is cached, so a repeated look-up can fetch the
/// alerts that the first one had no time for.
pub const ALERT_KEPT: Duration = Duration::from_secs(5 * 60);

/// Most such alerts cached per tenant.
pub const ALERTS_KEPT: usize = 2_000;

/// Most requests in one `$batch`, by Microsoft's documentation.
pub const BATCH: usize = 20;

/// Most parallel calls of one request or crawl. The original made one at a time, and
/// more than a few would be throttled together.
pub const PARALLEL_CALLS: usize = 8;

/// Most parallel calls of all crawls together, beyond the one that each always may
/// make: enough for two crawls at full speed. A page is usually 6 MB, and one tenant's
/// parallel pages are never larger together than one [`GRAPH_RESPONSE_BYTES`].
pub const CRAWL_CALLS: usize = 2 * (PARALLEL_CALLS - 1);

/// The longest URL, in bytes. Microsoft's front ends usually accept a head of 16 KiB,
/// with a token of 2 or 3 KiB; a longer query goes into the body of a batch.
pub const URL: usize = 8 * 1024;

/// Most pages of one look-up in the legacy API. Its `$top` applies to each provider, so
/// one page is usually enough.
pub const LEGACY_PAGES: usize = 20;

/// Rate limit of token requests. Microsoft publishes no limit; a token lasts an hour,
/// so frequent requests mean that tokens are being refused.
pub const TOKEN_CALLS: Rate = Rate { burst: 10, interval: Duration::from_secs(2) };

/// Attempts at one call while Microsoft is busy, the first included.
pub const ATTEMPTS: u32 = 4;

/// Longest delay before the second attempt if Microsoft sends no `Retry-After`; it
/// doubles with each further attempt.
pub const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Longest wait within one request for the end of a pause that Microsoft demands. For a longer
/// one the request reports when to try again: XDR gives a module little time.
pub const HOLD_WAIT_MAX: Duration = Duration::from_secs(15);

/// The longest `Retry-After` that is honoured.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(15 * 60);

/// How long the relay asks in a simpler way after Microsoft refused the better one: one odd answer
/// may have been the cause, and asking again costs one call.
pub const DOWNGRADE: Duration = Duration::from_secs(3_600);

/// How many values in a row must be refused in the legacy API's wide filter before only simple
/// filters are used: fewer may be odd values.
pub const LEGACY_REFUSALS: usize = 3;

/// Requests that may wait for their turn to call Microsoft, or for an index, besides those whose
/// turn it is. Each has a thread, which costs little while it waits. As many as [`QUEUE`].
pub const WAITING_REQUESTS: usize = 128;

/// How long rejected credentials are remembered. Entra treats a repeated failing request
/// as a loop (AADSTS50196), and a dashboard asks a dozen times at once.
pub const CREDENTIAL_FAILURE_TTL: Duration = Duration::from_secs(10);

/// Timeout of one outbound call; a request waits no longer than its own deadline. Pages
/// of several megabytes have been slow.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How far a call may exceed its timeout on a busy machine; beyond that, the process
/// was suspended meanwhile.
pub const SUSPEND_THRESHOLD: Duration = Duration::from_secs(10);

/// Timeout to connect, including DNS and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Age at which an idle outbound connection is closed: below the two minutes of
/// Microsoft's front ends.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(60);

/// How long before its expiry an access token is renewed.
pub const TOKEN_MARGIN: Duration = Duration::from_secs(300);

/// Clock difference allowed when a token's times are checked.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// The shortest key for HS256 that RFC 7518 section 3.2 allows, in bytes.
pub const HS256_KEY: usize = 32;

/// Bits of an RSA key: RFC 7518 section 3.3 requires 2,048 or more, and `ring` accepts
/// up to 8,192.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// The longest exponent of an RSA key, in bytes; it is nearly always 65,537.
pub const RSA_EXPONENT: usize = 8;

/// The longest key ID (`kid`), in bytes. Cisco's have 40.
pub const KEY_ID: usize = 256;

/// Most keys read from one host. Cisco's hosts publish one or two.
pub const KEYS: usize = 64;

/// How long a host's keys are used before they are fetched again, so a withdrawn key
/// does not stay valid.
pub const KEYS_FRESH: Duration = Duration::from_secs(3_600);

/// Shortest interval between key fetches from a host, whatever tokens ask for.
pub const KEYS_PAUSE: Duration = Duration::from_secs(60);

/// Timeout to fetch a host's keys: less than a request's, which continues afterwards.
pub const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// Most requests waiting for keys at once. Anybody can send a token with an unknown key
/// ID; that blocks at most a quarter of the default workers, while a host is slow.
pub const KEYS_WAITING: usize = 4;

/// The largest response to a call without an access token, in bytes: a token, or a
/// host's keys.
pub const UNAUTHENTICATED_RESPONSE_BYTES: u64 = 256 * 1024;

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

/// Most bytes of untrusted text in a log line or message.
pub const UNTRUSTED_TEXT_BYTES: usize = 200;

/// Most targets of one sighting. For an alert with hundreds of hosts, the sighting
/// links to the portal.
pub const TARGETS: usize = 50;

/// Most relations of one sighting, for the same reason. XDR draws each as an edge.
pub const RELATIONS: usize = 100;

/// The longest CTIM ShortString, in UTF-16 units.
pub const SHORT_STRING: usize = 1_024;

/// The longest CTIM MedString and URI, in UTF-16 units.
pub const MED_STRING: usize = 2_048;

/// The longest CTIM LongString, in UTF-16 units.
pub const LONG_STRING: usize = 5_000;

/// The longest path of a Unix socket: `sun_path` has 108 bytes including the final
/// zero (unix(7)).
pub const SOCKET_PATH: usize = 107;

/// How long `check` waits for the program on an address to say whether it is a relay.
pub const CHECK_PROBE: Duration = Duration::from_secs(2);
