"""EC2 on a port of the loopback interface: moto's server with `ec2_gaps`, requests that make it misbehave, and the
instance metadata (IMDSv2) of every instance.

    /_imds/ID/...                     metadata of instance ID, for AWS_EC2_METADATA_SERVICE_ENDPOINT
    GET  /_cloud/instances            all instances
    GET  /_cloud/calls                how often each action was called
    GET  /_cloud/versions             versions of launch templates that are there, by template
    POST /_cloud/network              {"region", "zones"}: subnets and a launch template to use there
    POST /_cloud/run                  {"region", "zone", "instance_type", "tags"}: an instance of somebody
    POST /_cloud/faults               [{"instance_type", "zone", "lifecycle", "code", "times"}]: what can't be had
    POST /_cloud/fail                 [{"action", "code", "status", "times"}]: calls that are refused
    POST /_cloud/drop                 {"action", "times"}: calls that are done but not answered
    POST /_cloud/prices               {"m5.large/us-east-1a": "0.05"}
    POST /_cloud/throttle             {"per_second", "burst"}; 0 per second: no limit
    POST /_cloud/outage               {"down"}: connections are cut
    POST /_cloud/credentials          {"expired": [access key ids]}
    POST /_cloud/lag                  {"seconds"} that new instances are not listed
    POST /_cloud/tokens               metadata tokens are forgotten
    POST /_cloud/instance             {"id", "do", "notice_s"}; do: interrupt, rebalance, take, vanish, power-off, stop
"""

import collections
import datetime
import io
import json
import math
import re
import secrets
import socket
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

import ec2_gaps
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

TOKEN_TTL_S_MAX = 21600


class Throttle:
    """A bucket of tokens, as EC2 limits the calls of an account."""

    def __init__(self, per_second, burst):
        self.per_second, self.burst = per_second, burst
        self.tokens, self.at = burst, time.monotonic()

    def takes(self):
        if not self.per_second:
            return True
        now = time.monotonic()
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.per_second)
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Metadata:
    """IMDSv2 of every instance."""

    def __init__(self):
        self.tokens, self.notices, self.recommendations = {}, {}, {}

    def answer(self, method, machine, path, headers):
        instance = ec2_gaps.find(machine)
        if instance is None or instance.state == "terminated":
            return 404, ""
        if path == "/latest/api/token":
            return self.token(method, machine, headers.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", ""))
        known, until = self.tokens.get(headers.get("HTTP_X_AWS_EC2_METADATA_TOKEN"), (None, 0))
        if known != machine or until < time.monotonic():
            return 401, "Unauthorized"
        value = self.values(instance).get(path.removeprefix("/latest/meta-data/"))
        return (404, "Not found") if value is None else (200, value)

    def token(self, method, machine, ttl):
        if method != "PUT":
            return 405, "Not allowed"
        if not ttl.isdigit() or not 1 <= int(ttl) <= TOKEN_TTL_S_MAX:
            return 400, "Bad request"
        token = secrets.token_urlsafe(32)
        self.tokens[token] = (machine, time.monotonic() + int(ttl))
        return 200, token

    def values(self, instance):
        values = {
            "instance-id": instance.id,
            "instance-type": instance.instance_type,
            "instance-life-cycle": instance.lifecycle or "on-demand",
            "local-ipv4": instance.private_ip or "",
            "placement/availability-zone": zone_of(instance),
            "placement/region": zone_of(instance)[:-1],
        }
        values |= {f"tags/instance/{tag['key']}": tag["value"] for tag in instance.get_tags()}
        if instance.id in self.notices:
            values["spot/instance-action"] = json.dumps(self.notices[instance.id])
            values["spot/termination-time"] = self.notices[instance.id]["time"]
        if instance.id in self.recommendations:
            values["events/recommendations/rebalance"] = json.dumps({"noticeTime": self.recommendations[instance.id]})
        return values


class Admin:
    """The requests below /_cloud."""

    def __init__(self, wishes, metadata):
        self.wishes, self.metadata = wishes, metadata
        self.calls = collections.Counter()
        self.failures, self.drops = [], {}
        self.throttle, self.down, self.expired = Throttle(0, 0), False, set()

    def answer(self, name, body):
        return getattr(self, "do_" + name.replace("-", "_"))(body)

    def do_instances(self, _):
        return [
            {
                "id": instance.id,
                "region": region,
                "zone": zone_of(instance),
                "instance_type": instance.instance_type,
                "lifecycle": instance.lifecycle or "on-demand",
                "state": instance.state,
                "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
                "user_data": str(instance.user_data or ""),
            }
            for region, backend in ec2_backends[ec2_gaps.ACCOUNT].items()
            for reservation in backend.reservations.values()
            for instance in reservation.instances
        ]

    def do_calls(self, _):
        return dict(self.calls)

    def do_versions(self, _):
        return {
            template.name: [version.number for version in template.versions if not getattr(version, "removed", False)]
            for backend in ec2_backends[ec2_gaps.ACCOUNT].values()
            for template in backend.launch_templates.values()
        }

    def do_network(self, body):
        backend = ec2_backends[ec2_gaps.ACCOUNT][body["region"]]
        subnets = {subnet.availability_zone: subnet.id for subnet in backend.describe_subnets()}
        data = {"ImageId": "ami-12c6146b", "InstanceType": "m5.large"}
        template = backend.create_launch_template(f"workers-{secrets.token_hex(4)}", "", data, {})
        return {"subnets": [subnets[zone] for zone in body["zones"]], "launch_template": template.id}

    def do_run(self, body):
        backend = ec2_backends[ec2_gaps.ACCOUNT][body["region"]]
        kind, zone = body.get("instance_type", "m5.large"), body["zone"]
        subnet = next(it.id for it in backend.describe_subnets() if it.availability_zone == zone)
        reservation = backend.run_instances(
            "ami-12c6146b", 1, None, [], instance_type=kind, is_instance_type_default=False, subnet_id=subnet,
            tags={"instance": body.get("tags", {})}, lifecycle=body.get("lifecycle"),
        )
        return {"id": reservation.instances[0].id}

    def do_faults(self, body):
        self.wishes.faults = body

    def do_fail(self, body):
        self.failures = body

    def do_drop(self, body):
        self.drops[body["action"]] = body["times"]

    def do_prices(self, body):
        self.wishes.prices.update(body)

    def do_throttle(self, body):
        self.throttle = Throttle(body["per_second"], body.get("burst", 1))

    def do_outage(self, body):
        self.down = body["down"]

    def do_credentials(self, body):
        self.expired = set(body["expired"])

    def do_lag(self, body):
        self.wishes.lag_s = float(body["seconds"])

    def do_tokens(self, _):
        self.metadata.tokens.clear()

    def do_instance(self, body):
        instance = ec2_gaps.find(body["id"])
        if instance is None:
            raise KeyError(f"no instance {body['id']}")
        do, machine = body["do"], instance.id
        if do == "interrupt":
            notice_s = float(body.get("notice_s", 120))
            at = datetime.datetime.now(datetime.timezone.utc)
            deadline = datetime.datetime.fromtimestamp(math.ceil(at.timestamp() + notice_s), datetime.timezone.utc)
            self.metadata.notices[machine] = {"action": "terminate", "time": iso(deadline)}
            self.metadata.recommendations.setdefault(machine, iso(at))
            timer = threading.Timer(notice_s, self.take, (instance,))
            timer.daemon = True
            timer.start()
        elif do == "rebalance":
            self.metadata.recommendations[machine] = iso(datetime.datetime.now(datetime.timezone.utc))
        elif do == "take":
            self.take(instance)
        elif do == "vanish":
            self.wishes.vanished.add(machine)
        elif do == "power-off":
            ec2_gaps.end(instance, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")
        elif do == "stop":
            instance.stop()
        else:
            raise KeyError(f"do: {do}")

    def take(self, instance):
        with self.wishes.lock:
            ec2_gaps.end(instance, "Server.SpotInstanceTermination", "Spot instance termination")

    def refusal(self, action, authorization):
        """Why a call is refused: code, message and status."""
        key = re.search(r"Credential=([^/]+)/", authorization)
        if key and key[1] in self.expired:
            return "ExpiredToken", "The security token included in the request is expired", 400
        if not self.throttle.takes():
            return "RequestLimitExceeded", "Request limit exceeded.", 503
        for failure in self.failures:
            if failure["action"] in ("*", action) and failure.get("times", -1) != 0:
                if failure.get("times", -1) > 0:
                    failure["times"] -= 1
                return failure["code"], failure.get("message", "injected"), failure.get("status", 400)
        return None

    def drops_answer(self, action):
        if self.drops.get(action, 0) == 0:
            return False
        self.drops[action] -= 1
        return True


class App:
    def __init__(self):
        self.wishes, self.metadata = ec2_gaps.Wishes(), Metadata()
        ec2_gaps.install(self.wishes)
        self.admin = Admin(self.wishes, self.metadata)
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if path.startswith("/_imds/"):
            machine, _, rest = path.removeprefix("/_imds/").partition("/")
            with self.wishes.lock:
                status, text = self.metadata.answer(environ["REQUEST_METHOD"], machine, "/" + rest, environ)
            return reply(start_response, status, text)
        if path.startswith("/_cloud/"):
            return self.administer(start_response, path.removeprefix("/_cloud/"), body)
        return self.call(environ, start_response, body)

    def administer(self, start_response, name, body):
        try:
            with self.wishes.lock:
                answer = self.admin.answer(name, json.loads(body or b"null"))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return reply(start_response, 400, f"{type(error).__name__}: {error}")
        return reply(start_response, 200, json.dumps({} if answer is None else answer), "application/json")

    def call(self, environ, start_response, body):
        if self.admin.down:
            return cut(environ)
        action = urllib.parse.parse_qs(body.decode(errors="replace")).get("Action", [""])[0]
        with self.wishes.lock:
            refusal = self.admin.refusal(action, environ.get("HTTP_AUTHORIZATION", ""))
            if refusal:
                return refuse(start_response, *refusal)
            self.admin.calls[action] += 1
            environ["wsgi.input"] = io.BytesIO(body)
            answer = self.moto(environ, start_response)
            return cut(environ) if self.admin.drops_answer(action) else answer


def zone_of(instance):
    return instance._placement.zone


def iso(time_of):
    return time_of.strftime("%Y-%m-%dT%H:%M:%SZ")


def cut(environ):
    """Ends the connection without an answer."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("the connection is cut")


def refuse(start_response, code, message, status):
    errors = f"<Errors><Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error></Errors>"
    text = f'<?xml version="1.0" encoding="UTF-8"?><Response>{errors}<RequestID>refused</RequestID></Response>'
    return reply(start_response, status, text, "text/xml;charset=UTF-8")


def reply(start_response, status, text, kind="text/plain"):
    data = text.encode()
    start_response(f"{status} .", [("Content-Type", kind), ("Content-Length", str(len(data)))])
    return [data]


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code="-", size="-"):
        pass

    def log_error(self, format, *args):
        pass


if __name__ == "__main__":
    run_simple("127.0.0.1", int(sys.argv[1]), App(), threaded=True, request_handler=Quiet)
