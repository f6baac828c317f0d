# Where all of it lies, and what it is called.

data "aws_region" "here" {}

data "aws_partition" "here" {}

data "aws_caller_identity" "me" {}

data "aws_ssm_parameter" "ubuntu" {
  count = var.image_id == null ? 1 : 0
  name  = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
}

locals {
  region    = data.aws_region.here.name
  partition = data.aws_partition.here.partition
  account   = data.aws_caller_identity.me.account_id
  image_id  = var.image_id != null ? var.image_id : nonsensitive(data.aws_ssm_parameter.ubuntu[0].value)

  # Marks machines: the coordinator may end those that carry it, and no others.
  deployment_tag = "trainctl:deployment"
  tags           = merge({ (local.deployment_tag) = var.name }, var.tags)

  coordinator_port = 7070
  # As in infra/boot.
  peer_port = 7071
}
