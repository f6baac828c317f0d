"""Stands for hashicorp/google in `terraform validate`: knows the provider's schema, and nothing else.

google_provider.py FOLDER: FOLDER is the unpacked npm package @cdktf/provider-google, whose .jsii describes each resource
as a class, made by machine from the provider's own schema. Prints the port on which it serves Terraform's plug-in
protocol, version 6.
"""

import gzip
import json
import pathlib
import re
import sys
from concurrent import futures

import grpc
from pyvider.protocols.tfprotov6.protobuf import tfplugin6_pb2 as pb
from pyvider.protocols.tfprotov6.protobuf import tfplugin6_pb2_grpc as rpc

RESOURCES = re.compile(r"google_(compute|storage|service_account|project_iam|iap_tunnel)_?\w*")
# Terraform's own arguments, which every class has.
META = {"forEach", "count", "dependsOn", "lifecycle", "provider", "provisioners", "connection"}
PRIMITIVES = {"string": "string", "number": "number", "boolean": "bool"}
MAPS = {"cdktf.StringMap": "string", "cdktf.BooleanMap": "bool", "cdktf.NumberMap": "number"}


def assembly(folder):
    text = json.loads((folder / ".jsii").read_bytes())
    if "filename" in text:
        return json.loads(gzip.decompress((folder / text["filename"]).read_bytes()))
    return text


def snake(name):
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def terraform_name(member):
    """Its documentation links to the argument; the class's own name has lost some underscores."""
    link = re.search(r"/docs[^ ]*#(\w+) ", json.dumps(member.get("docs", {})))
    return link[1] if link else snake(member["name"])


class Schema:
    def __init__(self, text):
        self.types = text["types"]
        self.prefix = text["name"] + "."

    def value_type(self, type_):
        """As Terraform writes types in JSON; None for what is a block."""
        if "primitive" in type_:
            return PRIMITIVES.get(type_["primitive"])
        if "union" in type_:
            known = [part for part in type_["union"]["types"] if part.get("fqn") != "cdktf.IResolvable"]
            return next(filter(None, map(self.value_type, known)), None)
        if "collection" in type_:
            element = self.value_type(type_["collection"]["elementtype"])
            kind = "list" if type_["collection"]["kind"] == "array" else "map"
            return element and [kind, element]
        if type_.get("fqn") in MAPS:
            return ["map", MAPS[type_["fqn"]]]
        return "bool" if type_.get("fqn") == "cdktf.IResolvable" else None

    def block_class(self, type_):
        """The class of a nested block, and whether there may be several."""
        name = type_.get("fqn", "")
        if name.startswith(self.prefix) and self.types[name]["kind"] == "interface":
            return name, False
        for part in type_.get("union", {}).get("types", []):
            if found := self.block_class(part):
                return found
        if "collection" in type_ and (found := self.block_class(type_["collection"]["elementtype"])):
            return found[0], True
        return None

    def block(self, config, computed_in, top=True):
        block = pb.Schema.Block()
        seen = set()
        for member in self.types[config].get("properties", []):
            if top and member["name"] in META:
                continue
            name, optional = terraform_name(member), bool(member.get("optional"))
            seen.add(name)
            if nested := self.block_class(member["type"]):
                block.block_types.append(
                    pb.Schema.NestedBlock(
                        type_name=name,
                        block=self.block(nested[0], nested[0] + "OutputReference", top=False),
                        nesting=pb.Schema.NestedBlock.LIST,
                        min_items=0 if optional else 1,
                        max_items=0 if nested[1] else 1,
                    )
                )
            else:
                type_ = self.value_type(member["type"]) or "dynamic"
                block.attributes.append(attribute(name, type_, required=not optional, optional=optional, computed=optional and name == "id"))
        for member in self.types.get(computed_in, {}).get("properties", []):
            name, type_ = snake(member["name"]), self.value_type(member["type"])
            # What every class has, and the inputs that were there already.
            own = member.get("immutable") and not member.get("static") and not member["name"].endswith("Input")
            if own and type_ and name not in seen:
                block.attributes.append(attribute(name, type_, computed=True))
        return block

    def answer(self):
        provider, resources = pb.Schema(), {}
        for name, type_ in self.types.items():
            if type_["kind"] != "class" or type_.get("base") not in ("cdktf.TerraformResource", "cdktf.TerraformProvider"):
                continue
            link = re.search(r"/docs(?:/resources/\w+)? (\w+)\}", json.dumps(type_.get("docs", {})))
            if type_["base"] == "cdktf.TerraformProvider":
                provider = pb.Schema(block=self.block(name + "Config", name))
            elif link and RESOURCES.fullmatch(link[1]):
                resources[link[1]] = pb.Schema(block=self.block(name + "Config", name))
        return pb.GetProviderSchema.Response(provider=provider, resource_schemas=resources)


def attribute(name, type_, required=False, optional=False, computed=False):
    return pb.Schema.Attribute(
        name=name, type=json.dumps(type_).encode(), required=required, optional=optional, computed=computed
    )


class Provider(rpc.ProviderServicer):
    def __init__(self, schema):
        self.schema = schema

    def GetProviderSchema(self, request, context):
        return self.schema

    def ValidateProviderConfig(self, request, context):
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, request, context):
        return pb.ValidateResourceConfig.Response()

    def ConfigureProvider(self, request, context):
        return pb.ConfigureProvider.Response()

    def StopProvider(self, request, context):
        return pb.StopProvider.Response()


def main():
    schema = Schema(assembly(pathlib.Path(sys.argv[1]))).answer()
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", 256 << 20)])
    rpc.add_ProviderServicer_to_server(Provider(schema), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


main()
