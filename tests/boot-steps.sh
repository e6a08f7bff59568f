# Run by boot.sh in the booted machine: each step as a document has it, and what has to
# come of it.
set -euo pipefail
fail() {
  echo "boot: $*"
  journalctl --boot --unit graph-relay --unit graph-relay.socket --no-pager --output=cat --lines=40
  exit 1
}
# until COMMAND...: within ten seconds.
until_so() {
  for _ in $(seq 100); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  fail "never so: $*"
}
journal() { journalctl --boot --unit graph-relay --no-pager --output=cat; }
journal_has() { journal | grep -qF -- "$1"; }
is() { [ "$(systemctl show graph-relay --property="$1" --value)" = "$2" ]; }
settings() {
  install -d /etc/graph-relay
  printf '%s\n' "$@" >/etc/graph-relay/graph-relay.env
}
relay() { curl -sS --max-time 30 --unix-socket /run/graph-relay.socket "$@"; }
drop_in() {
  install -d /run/systemd/system/graph-relay.service.d
  printf '[Service]\n%s\n' "$1" >/run/systemd/system/graph-relay.service.d/test.conf
  systemctl daemon-reload
}

# No key: the program says what to do, and systemd goes on trying.
! systemctl start graph-relay 2>/dev/null || fail 'starts without a key'
until_so journal_has 'reads /etc/graph-relay/secret-key), or set RELAY_JWKS_HOSTS'
for _ in $(seq 6); do systemctl start graph-relay 2>/dev/null || true; done
! is Result start-limit-hit || fail 'systemd has given up'

# RS256 alone.
settings RELAY_JWKS_HOSTS=cisco RELAY_AUDIENCE=https://relay.example
systemctl restart graph-relay || fail 'RS256 alone does not start'
journal_has 'The configuration is valid.' || fail 'check says nothing'
! journal_has 'RELAY_LISTEN is not set' || fail 'check lists the settings'
systemctl stop graph-relay

# A mistyped file is an error for all that.
settings RELAY_JWKS_HOSTS=cisco RELAY_AUDIENCE=a SECRET_KEY_FILE=/etc/graph-relay/sceret-key
! systemctl restart graph-relay 2>/dev/null || fail 'starts with a mistyped file'
systemctl stop graph-relay

# The steps of README and docs/systemd.md. Microsoft takes connections and is silent.
python3 -c 'import socket, time; s = socket.create_server(("127.0.0.1", 8799)); time.sleep(600)' >/dev/null 2>&1 &
settings RELAY_LOGIN_URL=http://127.0.0.1:8799 RELAY_REQUEST_TIMEOUT=6s RELAY_DRAIN_TIMEOUT=20s
graph-relay key new | install -D -m 0600 /dev/stdin /etc/graph-relay/secret-key
echo client-secret >/root/client-secret
token="$(SECRET_KEY_FILE=/etc/graph-relay/secret-key graph-relay token sign \
  --tenant-id relay.example --application-id 0a7e2b9c-51d4-4d0e-8c3f-6e1b7a9d2f40 --client-secret-file /root/client-secret)"
systemctl enable --now graph-relay.socket 2>/dev/null
systemctl start graph-relay
cp /usr/local/share/doc/graph-relay/contrib/nginx/graph-relay.conf /etc/nginx/conf.d/
systemctl start nginx
https() {
  curl -sk --max-time 30 --resolve relay.example:443:127.0.0.1 "https://relay.example$1" "${@:2}"
}
answer="$(https /watchdog -H 'Health-Check: alive')"
[ "$answer" = '{"data":"alive"}' ] || fail "through nginx: $answer"
answer="$(https /observe/observables -H "Authorization: Bearer $token" -d '{}')"
[[ "$answer" == *'"invalid argument"'* ]] || fail "the token is not accepted: $answer"
head="$(relay -D - -o /dev/null -X POST http://relay/version)"
[[ "$head" == *$'\r\nConnection: close\r\n'* ]] || fail "a connection that is kept: $head"

# More time to stop than the unit has: the one in flight is answered.
drop_in TimeoutStopSec=2s
systemctl restart graph-relay
relay -X POST http://relay/observe/observables -H "Authorization: Bearer $token" \
  -d '[{"type":"ip","value":"203.0.113.77"}]' >/root/answer &
in_flight=$!
until_so grep -q ':225F 01 ' /proc/net/tcp
systemctl stop graph-relay.socket graph-relay
wait "$in_flight" || fail 'stopped before the drain was over'
grep -q '"gateway timeout"\|"errors"' /root/answer || fail "in flight: $(cat /root/answer)"
is Result success || fail "stopped with $(systemctl show graph-relay --property=Result)"

# A relay that may not connect to its own socket serves nevertheless: longer than the
# ten seconds after which one whose connections are not accepted ends.
drop_in Group=nogroup
systemctl start graph-relay.socket graph-relay
until_so journal_has 'event=self_probe_failed'
pid="$(systemctl show graph-relay --property=MainPID --value)"
sleep 13
is MainPID "$pid" && is NRestarts 0 || fail 'ended for want of permission'
[ "$(journal | grep -c 'event=self_probe_failed')" = 1 ] || fail 'logged more than once'
relay -X POST http://relay/version >/dev/null || fail 'does not serve'
echo "boot: the documents' steps work with $(systemctl --version | sed -n 1p)"
