#!/usr/bin/env bash
# The pipeline's side of a rollout: start one, follow it, and leave things in order.
#
#   rollout.sh start     create the CodeDeploy deployment, if one is described, and start the rollout
#   rollout.sh watch     follow it to its end; stopped before that, it puts the rollout on hold
#   rollout.sh finish    whatever happened before: hold a rollout that a cancelled job left running,
#                        bring engine and flags in line with its end, keep what it rests on
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
#   ROLLOUT_JOB        finish: success, failure or cancelled
#   ROLLOUT_EVIDENCE   finish: the file for what the rollout rests on (rollout-evidence.zip)
#   GITHUB_OUTPUT      where `id`, `state` and `deployment` are told; none: only on stdout
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

deployment() {
    local application group id
    application=$(field applicationName <"$ROLLOUT_DEPLOYMENT")
    group=$(field deploymentGroupName <"$ROLLOUT_DEPLOYMENT")
    id=$(existing_deployment "$application" "$group")
    [ -n "$id" ] || id=$(aws deploy create-deployment --description "$(description)" \
        --cli-input-json "file://$ROLLOUT_DEPLOYMENT" --query deploymentId --output text)
    echo "$id"
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
    [ -z "${ROLLOUT_APPROVAL:-}" ] || words+=(--wait-for-approval "$ROLLOUT_APPROVAL")
    if [ -n "${ROLLOUT_DEPLOYMENT:-}" ]; then
        local id
        id=$(deployment)
        tell deployment "$id"
        words+=(--codedeploy "$id")
    fi
    local started
    started=$(sortition rollouts start "${words[@]}" --json) || {
        local code=$?
        echo "$started"
        exit "$code"
    }
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

finish() {
    if [ -z "${ROLLOUT_ID:-}" ]; then
        echo "No rollout was started: there is nothing to finish."
        return
    fi
    need SORTITION_URL SORTITION_TOKEN
    local code=0
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
