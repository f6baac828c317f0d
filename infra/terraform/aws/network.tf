# A network of its own. Workers have no way to the internet and none from it: the bucket is reached through a gateway,
# the coordinator inside. The coordinator calls EC2's API over the internet, and takes no connection from there.

resource "aws_vpc" "this" {
  # checkov:skip=CKV2_AWS_11:Flow logs are paid for by the gigabyte, and gradients are many; turn them on where a policy asks for them.
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = var.name })
}

# The group that everything is in by default lets nothing through.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
  tags   = local.tags
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = var.name })
}

resource "aws_subnet" "workers" {
  for_each                = { for number, zone in var.zones : zone => number }
  vpc_id                  = aws_vpc.this.id
  availability_zone       = each.key
  cidr_block              = cidrsubnet(var.cidr, 4, each.value + 1)
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${var.name}-workers-${each.key}" })
}

resource "aws_subnet" "coordinator" {
  vpc_id                  = aws_vpc.this.id
  availability_zone       = var.zones[0]
  cidr_block              = cidrsubnet(var.cidr, 4, 0)
  map_public_ip_on_launch = false
  tags                    = merge(local.tags, { Name = "${var.name}-coordinator" })
}

resource "aws_route_table" "workers" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-workers" })
}

resource "aws_route_table" "coordinator" {
  vpc_id = aws_vpc.this.id
  tags   = merge(local.tags, { Name = "${var.name}-coordinator" })
}

resource "aws_route" "out" {
  route_table_id         = aws_route_table.coordinator.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "workers" {
  for_each       = aws_subnet.workers
  subnet_id      = each.value.id
  route_table_id = aws_route_table.workers.id
}

resource "aws_route_table_association" "coordinator" {
  subnet_id      = aws_subnet.coordinator.id
  route_table_id = aws_route_table.coordinator.id
}

resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${local.region}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.workers.id, aws_route_table.coordinator.id]
  tags              = merge(local.tags, { Name = var.name })
}

resource "aws_security_group" "workers" {
  name        = "${var.name}-workers"
  description = "Workers of trainctl: among themselves, to the coordinator, to the bucket"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-workers" })
}

resource "aws_security_group" "coordinator" {
  name        = "${var.name}-coordinator"
  description = "The coordinator of trainctl: workers come in"
  vpc_id      = aws_vpc.this.id
  tags        = merge(local.tags, { Name = "${var.name}-coordinator" })
}

resource "aws_vpc_security_group_ingress_rule" "peers" {
  security_group_id            = aws_security_group.workers.id
  description                  = "Sums and state, among workers"
  referenced_security_group_id = aws_security_group.workers.id
  ip_protocol                  = "tcp"
  from_port                    = local.peer_port
  to_port                      = local.peer_port
}

resource "aws_vpc_security_group_egress_rule" "peers" {
  security_group_id            = aws_security_group.workers.id
  description                  = "Sums and state, among workers"
  referenced_security_group_id = aws_security_group.workers.id
  ip_protocol                  = "tcp"
  from_port                    = local.peer_port
  to_port                      = local.peer_port
}

resource "aws_vpc_security_group_egress_rule" "to_coordinator" {
  security_group_id            = aws_security_group.workers.id
  description                  = "Heartbeats and assignments"
  referenced_security_group_id = aws_security_group.coordinator.id
  ip_protocol                  = "tcp"
  from_port                    = local.coordinator_port
  to_port                      = local.coordinator_port
}

resource "aws_vpc_security_group_egress_rule" "to_bucket" {
  security_group_id = aws_security_group.workers.id
  description       = "S3, through the gateway"
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_ingress_rule" "from_workers" {
  security_group_id            = aws_security_group.coordinator.id
  description                  = "Heartbeats and assignments"
  referenced_security_group_id = aws_security_group.workers.id
  ip_protocol                  = "tcp"
  from_port                    = local.coordinator_port
  to_port                      = local.coordinator_port
}

resource "aws_vpc_security_group_egress_rule" "to_apis" {
  security_group_id = aws_security_group.coordinator.id
  description       = "The APIs of EC2 and of Session Manager, and S3"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
