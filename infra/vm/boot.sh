#!/bin/bash
# boot.sh fetch|watch, run by systemd units with what they need in their environment.
#   fetch  brings the bundle from its bucket with this machine's own role, checks its digest, unpacks it
#   watch  ends the machine when no coordinator has answered for TRAINCTL_ORPHAN_MINUTES
# Needs curl 7.87 or newer (it signs requests to S3), sha256sum, tar, and zstd for a bundle packed with it.
set -euo pipefail

run=${TRAINCTL_RUN_FOLDER:-/run/trainctl}
opt=${TRAINCTL_OPT_FOLDER:-/opt/trainctl}
ec2=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
gce=http://${GCE_METADATA_HOST:-169.254.169.254}/computeMetadata/v1

die() {
  echo "trainctl: $*" >&2
  exit 1
}

get() {
  curl --fail --silent --show-error --connect-timeout 5 --retry 6 --retry-all-errors "$@"
}

# Headers come on stdin: arguments can be seen by every process.
from_ec2() {
  get --max-time 10 --header @- "$ec2/latest/meta-data/$1" <<<"X-aws-ec2-metadata-token: $token"
}

from_gce() {
  get --max-time 10 --header 'Metadata-Flavor: Google' "$gce/instance/$1"
}

field() { # NAME JSON: a text of a flat object
  sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" <<<"$2"
}

region_of() { # BUCKET OTHERWISE: where it lies, which S3 tells everybody
  local told
  told=$(curl --silent --head --connect-timeout 2 --max-time 5 "${AWS_ENDPOINT_URL_S3:-https://s3.amazonaws.com}/$1" |
    sed -n 's/^x-amz-bucket-region: *\([a-z0-9-]*\).*/\1/Ip') || true
  echo "${told:-$2}"
}

fetch_s3() { # BUCKET KEY FILE
  local role credentials session endpoint
  role=$(from_ec2 iam/security-credentials/)
  credentials=$(from_ec2 "iam/security-credentials/$role")
  session=$(field Token "$credentials")
  endpoint=${AWS_ENDPOINT_URL_S3:+$AWS_ENDPOINT_URL_S3/$1}
  {
    printf 'user = "%s:%s"\n' "$(field AccessKeyId "$credentials")" "$(field SecretAccessKey "$credentials")"
    [[ -z $session ]] || printf 'header = "x-amz-security-token: %s"\n' "$session"
  } | get --config - --aws-sigv4 "aws:amz:$AWS_REGION:s3" --output "$3" \
    "${endpoint:-https://$1.s3.$AWS_REGION.amazonaws.com}/$2"
}

fetch_gcs() { # BUCKET OBJECT FILE
  local access
  access=$(field access_token "$(from_gce service-accounts/default/token)")
  get --header @- --output "$3" "${STORAGE_EMULATOR_HOST:-https://storage.googleapis.com}/$1/$2" \
    <<<"Authorization: Bearer $access"
}

fetch() {
  local address kind rest bundle=$opt/bundle digest=${TRAINCTL_BUNDLE_DIGEST#sha256:}
  mkdir -p "$run" "$opt"
  heard
  case $TRAINCTL_NOTICES in
    ec2)
      token=$(get --max-time 10 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 600' "$ec2/latest/api/token")
      address=$(from_ec2 local-ipv4)
      AWS_REGION=${AWS_REGION:-$(from_ec2 placement/region)}
      ;;
    gce)
      address=$(from_gce network-interfaces/0/ip)
      AWS_REGION=${AWS_REGION:-}
      ;;
    *) die "TRAINCTL_NOTICES: expected ec2 or gce, found $TRAINCTL_NOTICES" ;;
  esac
  kind=${TRAINCTL_BUNDLE_URI%%://*} rest=${TRAINCTL_BUNDLE_URI#*://}
  [[ $kind != s3 ]] || AWS_REGION=$(region_of "${rest%%/*}" "$AWS_REGION")
  printf 'TRAINCTL_ADDRESS="%s"\n' "$address" >"$run/found.env"
  [[ -z $AWS_REGION ]] || printf 'AWS_REGION="%s"\n' "$AWS_REGION" >>"$run/found.env"

  if [[ -e $opt/current/digest && $(<"$opt/current/digest") == "$digest" ]]; then
    return
  fi
  case $kind in
    s3) fetch_s3 "${rest%%/*}" "${rest#*/}" "$bundle" ;;
    gs) fetch_gcs "${rest%%/*}" "${rest#*/}" "$bundle" ;;
    *) die "bundle: expected s3:// or gs://, found $TRAINCTL_BUNDLE_URI" ;;
  esac
  sha256sum --check --status <<<"$digest  $bundle" ||
    die "bundle $TRAINCTL_BUNDLE_URI: expected $digest, found $(sha256sum "$bundle" | cut -d ' ' -f 1)"
  rm -rf "$opt/current"
  mkdir "$opt/current"
  tar --extract --no-same-owner --strip-components 1 --directory "$opt/current" --file "$bundle"
  rm "$bundle"
  echo "$digest" >"$opt/current/digest"
}

# Seconds since the machine started: no clock that is set later moves it.
uptime_s() {
  local up
  read -r up _ </proc/uptime
  echo "${up%.*}"
}

heard() {
  uptime_s >"$run/heard"
}

watch() {
  local place=${TRAINCTL_COORDINATOR_URL#*://} host silent_s
  place=${place%%/*} host=${place%:*}
  # An IPv6 address comes in brackets.
  host=${host#[} host=${host%]}
  [[ -e $run/heard ]] || { mkdir -p "$run" && heard; }
  # $0 and $1 are the inner shell's.
  # shellcheck disable=SC2016
  if timeout 10 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "${place##*:}" 2>/dev/null; then
    heard
    return
  fi
  silent_s=$(($(uptime_s) - $(<"$run/heard")))
  ((silent_s >= TRAINCTL_ORPHAN_MINUTES * 60)) || return 0
  echo "trainctl: no coordinator at $place for $silent_s s: saves and ends" >&2
  # A worker that trains saves when it is stopped.
  systemctl stop trainctl-worker.service || true
  systemctl --no-block poweroff
}

case ${1:-} in
  fetch | watch) "$1" ;;
  *) die "expected fetch or watch, found ${1:-nothing}" ;;
esac
