#!/usr/bin/env bash
# Writes docs/transcript.md: what a terminal of 100 columns shows of a first session, captured by tmux.
# Usage: tools/transcript.sh PATH_OF_RONDO > docs/transcript.md
set -euo pipefail
rondo=$(realpath "$1")
place=$(mktemp -d)
trap 'tmux -L transcript kill-server 2>/dev/null || true; rm -rf "$place"' EXIT
mkdir "$place/bin"
ln -s "$rondo" "$place/bin/rondo"
cd "$place"
tmux -L transcript -f /dev/null start-server \; set -g history-limit 10000 \; \
  new-session -d -x 100 -y 50 "env -i HOME=$HOME TERM=xterm-256color LANG=C.UTF-8 PS1='$ ' PATH=$place/bin:$PATH bash --norc --noprofile"
tmux -L transcript set -g status off

type_line() { tmux -L transcript send-keys -l "$1"; tmux -L transcript send-keys Enter; }
press() { tmux -L transcript send-keys "$1"; }
screen() { tmux -L transcript capture-pane -p -J -S -; }
# Waits until the last line with text on it begins with $1.
until_last() { for _ in $(seq 3000); do sleep 0.1; [[ "$(screen | grep -v '^ *$' | tail -n 1)" == "$1"* ]] && return; done; echo "never saw '$1'" >&2; screen >&2; exit 1; }
until_seen() { for _ in $(seq 3000); do sleep 0.1; screen | grep -qF -- "$1" && return; done; echo "never saw '$1'" >&2; screen >&2; exit 1; }
section() { printf '\n## %s\n\n```\n' "$1"; }
# Prints what the screen shows, and clears it.
shown() { screen | sed -e 's/ *$//' | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}' | sed '$d'; printf '```\n'; tmux -L transcript send-keys C-l; tmux -L transcript clear-history; sleep 0.3; tmux -L transcript clear-history; }

cat <<'TEXT'
# A first session

What a terminal of 100 columns shows, on two cores without a GPU; made by `tools/transcript.sh`.
TEXT

until_last '$'
section "A model from nothing"
type_line 'rondo demo'; sleep 1; until_last '$'; shown
section "Interrupted"
type_line 'rondo train --preset hlx-full --epochs 300 --out runs/mine'; until_seen 'left'; sleep 2; press C-c; until_last '$'
type_line 'echo $?'; sleep 0.5; shown
section "Resumed"
type_line 'rondo train --resume runs/mine'; sleep 1; until_last '$'; shown
section "A picture of both"
type_line 'rondo plot runs/demo-0 runs/mine --out loss.png'; sleep 0.5; until_last '$'; shown
section "Talking to a model"
type_line 'rondo run runs/mine "Machine" --greedy'; sleep 0.5; until_last '$'
type_line 'echo "Deep l" | rondo run runs/mine --greedy --json'; sleep 0.5; until_last '$'
type_line 'rondo run runs/demo-0'; until_last '>>>'
type_line '/// The'; sleep 1; until_last '>>>'
type_line '/stats'; sleep 0.5; until_last '>>>'
type_line '/bye'; until_last '$'; shown
