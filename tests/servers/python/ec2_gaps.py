"""What moto's EC2 lacks of the real one, for tests of spot instances: capacity that runs out, prices that move, requests
that are known by their token, instances that are invisible at first, user data in a version of a launch template.

`install` puts it into moto. What is wished for is in the one `Wishes`; the server's admin requests write there.
"""

import datetime
import threading
import time

import moto.ec2.utils
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError, InvalidLaunchTemplateVersionNotFound
from moto.ec2.models import ec2_backends
from moto.ec2.models.fleets import Fleet
from moto.ec2.models.instances import StateReason
from moto.ec2.models.launch_templates import LaunchTemplate
from moto.ec2.responses.fleets import Fleets
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ec2.responses.spot_instances import SpotInstances

ACCOUNT = "123456789012"
SPOT_PRICE = "0.1"


class Wishes:
    """What tests ask of the cloud. Guarded by `lock`, as all of moto is."""

    def __init__(self):
        self.lock = threading.RLock()
        # {"instance_type": "*", "zone": "*", "lifecycle": "*", "code": ..., "times": -1}: what can't be had, and why.
        self.faults = []
        # "m5.large/us-east-1a" or "m5.large": US dollars an hour, as text.
        self.prices = {}
        # Seconds that a new instance is not listed.
        self.lag_s = 0.0
        # Instances that are not listed, nor known, any more.
        self.vanished = set()
        # By region and token: what was asked for, and the answer to it.
        self.tokens = {}

    def fault(self, instance_type, zone, lifecycle):
        """Takes the fault that applies, if there is one."""
        for fault in self.faults:
            facts = {"instance_type": instance_type, "zone": zone, "lifecycle": lifecycle}
            applies = all(fault.get(key, "*") in ("*", value) for key, value in facts.items())
            if applies and fault.get("times", -1) != 0:
                if fault.get("times", -1) > 0:
                    fault["times"] -= 1
                return fault
        return None

    def price(self, instance_type, zone):
        return self.prices.get(f"{instance_type}/{zone}", self.prices.get(instance_type, SPOT_PRICE))

    def is_hidden(self, instance):
        age_s = time.time() - instance.launch_time.replace(tzinfo=datetime.timezone.utc).timestamp()
        return instance.id in self.vanished or age_s < self.lag_s


class Refused(EC2ClientError):
    """An error of EC2 with any code."""


def find(machine):
    """An instance, whatever its region."""
    for backend in ec2_backends[ACCOUNT].values():
        for reservation in backend.reservations.values():
            for instance in reservation.instances:
                if instance.id == machine:
                    return instance
    return None


def end(instance, reason, message):
    """Ends an instance, with the state reason that EC2 would give."""
    if instance.state == "terminated":
        return
    instance.terminate()
    instance.state_reason = StateReason(f"{reason}: {message}", reason)
    instance._reason = f"{reason}: {message}"


def install(wishes):
    moto.ec2.utils.filter_dict_attribute_mapping["instance-lifecycle"] = "lifecycle"
    _idempotent(Fleets, "create_fleet", wishes)
    _idempotent(LaunchTemplates, "create_launch_template_version", wishes)
    _fleets(wishes)
    _templates()
    _prices(wishes)
    _listing(wishes)


def _idempotent(responses, name, wishes):
    """Asked again with the same token and the same parameters, the first answer is given again."""
    original = getattr(responses, name)

    def call(self):
        token = self._get_param("ClientToken")
        if not token:
            return original(self)
        asked = repr(sorted((key, value) for key, value in self._get_params().items() if key != "ClientToken"))
        known = wishes.tokens.get((self.region, name, token))
        if known and known[0] != asked:
            message = "The client token was used with other parameters before."
            raise Refused("IdempotentParameterMismatch", message)
        if not known:
            known = wishes.tokens[(self.region, name, token)] = (asked, original(self))
        return known[1]

    setattr(responses, name, call)


def _fleets(wishes):
    create = Fleets.create_fleet

    def counts(self, wanted):
        capacity = self.target_capacity_specification.get("DefaultTargetCapacityType")
        lifecycle = "spot" if capacity == "spot" else "on-demand"
        had, self.errors = [], []
        for spec in self.launch_specs:
            zone = self.ec2_backend.get_subnet(spec.subnet_id).availability_zone
            fault = wishes.fault(spec.instance_type, zone, lifecycle)
            if fault is None:
                had.append((float(wishes.price(spec.instance_type, zone)), len(had), spec))
                continue
            message = f"We currently do not have what you asked for: {spec.instance_type} in {zone}."
            self.errors.append({
                "LaunchTemplateAndOverrides": {
                    "LaunchTemplateSpecification": spec.launch_template_spec,
                    "Overrides": spec.overrides or {},
                },
                "Lifecycle": lifecycle,
                "ErrorCode": fault.get("code", "InsufficientInstanceCapacity"),
                "ErrorMessage": fault.get("message", message),
            })
        return ({min(had)[2]: int(wanted)}, float(wanted)) if had else ({}, 0.0)

    def create_fleet(self):
        answer = create(self)
        fleet = self.ec2_backend.get_fleet(answer.result["FleetId"])
        answer.result["Errors"] = getattr(fleet, "errors", [])
        answer.result.setdefault("Instances", [])
        return answer

    Fleet.get_launch_spec_counts = counts
    Fleets.create_fleet = create_fleet


def _templates():
    create = LaunchTemplates.create_launch_template_version
    get_version = LaunchTemplate.get_version

    def template_of(self):
        template_id, name = self._get_param("LaunchTemplateId"), self._get_param("LaunchTemplateName")
        backend = self.ec2_backend
        return backend.get_launch_template(template_id) if template_id else backend.get_launch_template_by_name(name)

    def create_version(self):
        template = template_of(self)
        source = self._get_param("SourceVersion")
        inherited = template.get_version(source).data if source else {}
        answer = create(self)
        version = template.versions[-1]
        version.data = {**inherited, **version.data}
        text = version.data.get("UserData")
        if isinstance(text, str) and not isinstance(text, Base64EncodedString):
            version.data["UserData"] = Base64EncodedString(text)
        return answer

    def delete_versions(self):
        template = template_of(self)
        done, failed = [], []
        for number in self._get_param("Versions", []):
            version = template.versions[int(number) - 1] if int(number) <= len(template.versions) else None
            entry = {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "VersionNumber": int(number)}
            if version is None or getattr(version, "removed", False) or template.is_default(version):
                error = {"Code": "launchTemplateVersionDoesNotExist", "Message": "no such version"}
                failed.append({**entry, "ResponseError": error})
            else:
                version.removed = True
                done.append(entry)
        return ActionResult({
            "SuccessfullyDeletedLaunchTemplateVersions": done,
            "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
        })

    def version_there(self, number):
        version = get_version(self, number)
        if getattr(version, "removed", False):
            raise InvalidLaunchTemplateVersionNotFound(template_id=self.id, version=number)
        return version

    LaunchTemplates.create_launch_template_version = create_version
    LaunchTemplates.delete_launch_template_versions = delete_versions
    LaunchTemplate.get_version = version_there


def _prices(wishes):
    def history(self):
        types, filters = self._get_param("InstanceTypes", []), self._filters_from_querystring()
        offered = self.ec2_backend.describe_spot_price_history(types, filters)
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return ActionResult({
            "SpotPriceHistory": [
                {
                    "InstanceType": offer["InstanceType"],
                    "ProductDescription": "Linux/UNIX",
                    "AvailabilityZone": offer["Location"],
                    "Timestamp": now,
                    "SpotPrice": wishes.price(offer["InstanceType"], offer["Location"]),
                }
                for offer in offered
            ]
        })

    SpotInstances.describe_spot_price_history = history


def _listing(wishes):
    describe, terminate = InstanceResponse.describe_instances, InstanceResponse.terminate_instances

    def describe_instances(self):
        answer = describe(self)
        listed = answer.result["Reservations"]
        shown = [it for it in listed if not any(wishes.is_hidden(instance) for instance in it.instances)]
        answer.result["Reservations"] = shown
        return answer

    def terminate_instances(self):
        for machine in self._get_param("InstanceIds", []):
            if machine in wishes.vanished:
                raise Refused("InvalidInstanceID.NotFound", f"The instance ID '{machine}' does not exist")
        return terminate(self)

    InstanceResponse.describe_instances = describe_instances
    InstanceResponse.terminate_instances = terminate_instances
