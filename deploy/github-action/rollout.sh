#!/usr/bin/env bash
# The pipeline's side of a rollout: start one, follow it, and leave things in order.
#
#   rollout.sh start     create the CodeDeploy deployment, if one is described, and start the rollout
#   rollout.sh watch     follow it to its end; stopped before that, it puts the rollout on hold
#   rollout.sh finish    whatever happened before: hold a rollout that a cancelled job left running, take
#                        back what it left waiting for a second person, bring engine and flags in line with its end, keep what it rests on
#
# The action beside this file calls it; any other pipeline can do so as well. It reads:
#
#   SORTITION_URL, SORTITION_TOKEN     the server, and a token of scope `deploy`
#   ROLLOUT_FILE       start: what the rollout is to be (`sortition rollouts schema`)
#   ROLLOUT_VERSION    start: the new service.version
#   ROLLOUT_KEY        start: the same key is the same rollout, so a job that runs again follows the
#                      one that it started
#   ROLLOUT_CONFIRM    start: the environment again, where it is critical
#   ROLLOUT_REASON     start: why; it stands in the record
#   ROLLOUT_APPROVAL   start: how long to wait for a second person, as in 2h; none: not at all
#   ROLLOUT_DEPLOYMENT start: input of `aws deploy create-deployment` as JSON; none: no CodeDeploy
#   ROLLOUT_TIMEOUT    watch: how long at most, as in 45m; none: its schedule and 15 minutes
#   ROLLOUT_LOST_AFTER start, watch: how long nothing may be heard of this job (2m)
#   ROLLOUT_ID         watch, finish: the rollout, as `start` told it
#   ROLLOUT_PROPOSAL   finish: what waits for a second person, as `start` told it
#   ROLLOUT_JOB        finish: success, failure or cancelled
#   ROLLOUT_EVIDENCE   finish: the file for what the rollout rests on (rollout-evidence.zip)
#   GITHUB_OUTPUT      where `id`, `state`, `deployment` and `approval` are told; none: only on stdout
#   GITHUB_STEP_SUMMARY where a summary in Markdown goes; none: nowhere
#
# Exit codes are those of the `sortition` command: 3 is a rollout that was rolled back.

set -euo pipefail

lost_after=${ROLLOUT_LOST_AFTER:-2m}

fail() {
    echo "✖ $*" >&2
    exit 2
}

need() {
    local name
    for name in "$@"; do
        [ -n "${!name:-}" ] || fail "$name is not set."
    done
}

tell() { # tell NAME VALUE
    echo "$1=$2"
    [ -z "${GITHUB_OUTPUT:-}" ] || echo "$1=$2" >>"$GITHUB_OUTPUT"
}

field() { # field NAME: of the JSON on stdin
    python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"
}

# --- start ----------------------------------------------------------------------------------------

# CodeDeploy has no idempotency of its own. The deployment carries the job's key in its description,
# so that a job that runs again, or that was cut off right after creating it, finds it.
description() {
    echo "sortition run $ROLLOUT_KEY"
}

existing_deployment() { # existing_deployment APPLICATION GROUP
    local since
    since=$(($(date +%s) - 30 * 24 * 3600))
    aws deploy list-deployments --application-name "$1" --deployment-group-name "$2" \
        --create-time-range "start=$since" --query 'deployments[]' --output text |
        tr -s '[:space:]' '\n' |
        xargs -r -n 25 aws deploy batch-get-deployments \
            --query "deploymentsInfo[?description=='$(description)'].deploymentId" \
            --output text --deployment-ids |
        tr -s '[:space:]' '\n' | sed '/^$/d' | head -n 1
}

# Its AppSpec, as YAML or JSON, names a hook that asks before production traffic moves; or it is not
# here to be looked at.
asks_first() {
    python3 - "$ROLLOUT_DEPLOYMENT" <<'EOF'
import json, re, sys

with open(sys.argv[1]) as file:
    revision = json.load(file).get("revision", {})
if revision.get("revisionType") == "S3":
    print("… the AppSpec is in S3: whether it has a hook is not looked at.", file=sys.stderr)
    sys.exit(0)
text = revision.get("appSpecContent", revision.get("string", {})).get("content", "")
text = re.sub(r"#.*", "", text)
hooks = "BeforeInstall|AfterInstall|AfterAllowTestTraffic|BeforeAllowTraffic"
sys.exit(not re.search(rf"""(?m)(^|[\s{{\[,-])["']?({hooks})["']?\s*:""", text))
EOF
}

# Where two people are wanted, a rollout begins long after its deployment was created. CodeDeploy
# waits for that at a hook, and nowhere else.
check_it_waits() {
    local wanted
    wanted=$(sortition env get --file "$ROLLOUT_FILE" --json) || {
        local code=$?
        echo "$wanted" >&2
        exit "$code"
    }
    wanted=$(field four_eyes <<<"$wanted") || exit
    [ "$wanted" = False ] || asks_first ||
        fail "A second person has to approve first, and no hook of this deployment waits for them:" \
            "it would move production before. Put one into its AppSpec, such as BeforeAllowTraffic."
}

deployment() {
    # Each says `exit` by itself: what is run for its output does not end at what fails.
    local application group id
    application=$(field applicationName <"$ROLLOUT_DEPLOYMENT") || exit
    group=$(field deploymentGroupName <"$ROLLOUT_DEPLOYMENT") || exit
    id=$(existing_deployment "$application" "$group") || exit
    if [ -z "$id" ]; then
        check_it_waits
        id=$(aws deploy create-deployment --description "$(description)" \
            --cli-input-json "file://$ROLLOUT_DEPLOYMENT" --query deploymentId --output text) || exit
    fi
    echo "$id"
}

# The id of what waits for a second person, of the answer on stdin; none: nothing does.
proposal() {
    python3 -c 'import json, sys
print(json.loads(sys.stdin.read() or "{}").get("error", {}).get("approval") or "")'
}

# Waits for that person, and sets `started` and `code` of `start`. It may take hours, so it ends at
# once when the job is cancelled: `finish` takes back what waits.
wait_for_approval() { # wait_for_approval WORDS…: of the start
    local file child=""
    file=$(mktemp)
    trap 'stopped=1; [ -z "$child" ] || kill "$child" 2>/dev/null || true' INT TERM
    sortition rollouts start "$@" --wait-for-approval "$ROLLOUT_APPROVAL" --json >"$file" &
    child=$!
    # A signal may have come before there was somebody to kill.
    [ -z "$stopped" ] || kill "$child" 2>/dev/null || true
    code=0
    wait "$child" || code=$?
    [ -z "$stopped" ] || code=130
    started=$(cat "$file")
    rm -f "$file"
}

start() {
    need SORTITION_URL SORTITION_TOKEN ROLLOUT_FILE ROLLOUT_KEY
    # The key becomes part of a query and of a header.
    [[ $ROLLOUT_KEY =~ ^[A-Za-z0-9._:/-]{1,100}$ ]] ||
        fail "ROLLOUT_KEY must be 1 to 100 of A-Z a-z 0-9 . _ : / and -."
    # A job that is cancelled now has started something, or not: what it was must still be told. The
    # rollout holds by itself when nobody comes to watch it.
    local stopped=""
    trap 'stopped=1' INT TERM
    local words=(--file "$ROLLOUT_FILE" --idempotency-key "$ROLLOUT_KEY")
    words+=(--hold-if-lost --lost-after "$lost_after")
    [ -z "${ROLLOUT_VERSION:-}" ] || words+=(--version "$ROLLOUT_VERSION")
    [ -z "${ROLLOUT_REASON:-}" ] || words+=(--reason "$ROLLOUT_REASON")
    [ -z "${ROLLOUT_CONFIRM:-}" ] || words+=(--confirm "$ROLLOUT_CONFIRM")
    if [ -n "${ROLLOUT_DEPLOYMENT:-}" ]; then
        local id
        id=$(deployment)
        tell deployment "$id"
        words+=(--codedeploy "$id")
    fi
    local started code=0 waits=""
    started=$(sortition rollouts start "${words[@]}" --json) || code=$?
    [ "$code" != 8 ] || waits=$(proposal <<<"$started")
    if [ -n "$waits" ]; then
        tell approval "$waits"
        echo "… its page: ${SORTITION_URL%/}/approvals/$waits" >&2
        [ -z "${ROLLOUT_APPROVAL:-}" ] || wait_for_approval "${words[@]}"
    fi
    if [ "$code" != 0 ]; then
        echo "$started"
        exit "$code"
    fi
    tell id "$(field id <<<"$started")"
    tell state "$(field state <<<"$started")"
    [ -z "$stopped" ] || exit 130
}

# --- watch ----------------------------------------------------------------------------------------

watch() {
    need SORTITION_URL SORTITION_TOKEN ROLLOUT_ID
    local words=("$ROLLOUT_ID" --hold-if-lost --lost-after "$lost_after")
    [ -z "${ROLLOUT_TIMEOUT:-}" ] || words+=(--timeout "$ROLLOUT_TIMEOUT")
    [ -z "${GITHUB_STEP_SUMMARY:-}" ] || words+=(--summary "$GITHUB_STEP_SUMMARY")
    # In this process' place: a runner that cancels a job signals only the step's first process.
    exec sortition rollouts watch "${words[@]}"
}

# --- finish ---------------------------------------------------------------------------------------

hold() {
    # One that has ended, or is on its way back, cannot be held and need not be.
    sortition rollouts hold "$ROLLOUT_ID" --reason "The job was cancelled." || [ $? = 7 ]
}

# Takes back what a cancelled job left waiting: nobody is to start it by approving of it later. Where
# somebody has approved meanwhile, sets ROLLOUT_ID to what came of it.
withdraw() {
    local code=0 told
    sortition approvals withdraw "$ROLLOUT_PROPOSAL" --reason "The job was cancelled." || code=$?
    [ "$code" = 7 ] || return "$code"
    told=$(sortition approvals show "$ROLLOUT_PROPOSAL" --json) || return
    if [ "$(field state <<<"$told")" = approved ]; then
        ROLLOUT_ID=$(field outcome <<<"$told")
        ROLLOUT_ID=${ROLLOUT_ID#rollout/}
    fi
}

finish() {
    local code=0
    if [ -z "${ROLLOUT_ID:-}" ] && [ -n "${ROLLOUT_PROPOSAL:-}" ] &&
        [ "${ROLLOUT_JOB:-}" = cancelled ]; then
        need SORTITION_URL SORTITION_TOKEN
        withdraw || code=$?
    fi
    if [ -z "${ROLLOUT_ID:-}" ]; then
        echo "No rollout was started: there is nothing to finish."
        return "$code"
    fi
    need SORTITION_URL SORTITION_TOKEN
    # Each is tried, whatever became of the one before; the first failure is the step's.
    if [ "${ROLLOUT_JOB:-}" = cancelled ]; then
        hold || code=$?
    fi
    sortition rollouts sync "$ROLLOUT_ID" || code=$((code ? code : $?))
    sortition rollouts evidence "$ROLLOUT_ID" \
        --out "${ROLLOUT_EVIDENCE:-rollout-evidence.zip}" || code=$((code ? code : $?))
    return "$code"
}

case "${1:-}" in
    start | watch | finish) "$1" ;;
    *) fail "Say what to do: start, watch or finish." ;;
esac
