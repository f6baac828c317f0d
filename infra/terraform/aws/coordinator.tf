# The coordinator: one small machine, its records on a disk of their own that outlives it.

locals {
  vm = "${path.module}/../../vm"

  coordinator_address = cidrhost(aws_subnet.coordinator.cidr_block, 10)
  data_device         = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${replace(aws_ebs_volume.records.id, "-", "")}"

  pools = templatefile("${path.module}/pools.toml.tftpl", {
    region          = local.region
    subnets         = { for zone, subnet in aws_subnet.workers : zone => subnet.id }
    instance_types  = var.instance_types
    launch_template = aws_launch_template.worker.id
    max_workers     = var.max_workers
    on_demand       = var.on_demand
    bundle_uri      = "s3://${aws_s3_bucket.this.id}/${aws_s3_object.bundle.key}"
    bundle_digest   = "sha256:${local.bundle_sha256}"
    coordinator_url = "https://${local.coordinator_address}:${local.coordinator_port}"
  })

  coordinator_env = {
    TRAINCTL_NOTICES          = "ec2"
    TRAINCTL_BUNDLE_URI       = "s3://${aws_s3_bucket.this.id}/${aws_s3_object.bundle.key}"
    TRAINCTL_BUNDLE_DIGEST    = "sha256:${local.bundle_sha256}"
    TRAINCTL_RECORDS_DEVICE   = local.data_device
    TRAINCTL_COORDINATOR_PORT = local.coordinator_port
    AWS_REGION                = local.region
  }

  coordinator_user_data = templatefile("${local.vm}/coordinator.yaml.tftpl", {
    vm    = local.vm
    env   = local.coordinator_env
    pools = local.pools
  })
}

resource "aws_ebs_volume" "records" {
  # checkov:skip=CKV_AWS_189:Encrypted with the key that kms_key_arn names, else with the one that AWS manages.
  availability_zone = aws_subnet.coordinator.availability_zone
  size              = var.coordinator_disk_gb
  type              = "gp3"
  encrypted         = true
  kms_key_id        = var.kms_key_arn
  tags              = merge(local.tags, { Name = "${var.name}-records" })
}

resource "aws_instance" "coordinator" {
  # checkov:skip=CKV_AWS_88:It calls EC2's API over the internet; its security group lets nobody in from there. A NAT gateway in its place costs more than the machine.
  # checkov:skip=CKV_AWS_126:Detailed monitoring is paid for, and trainctl watches itself.
  ami                         = local.image_id
  instance_type               = var.coordinator_instance_type
  subnet_id                   = aws_subnet.coordinator.id
  private_ip                  = local.coordinator_address
  associate_public_ip_address = true
  vpc_security_group_ids      = [aws_security_group.coordinator.id]
  iam_instance_profile        = aws_iam_instance_profile.coordinator.name
  ebs_optimized               = true
  user_data                   = local.coordinator_user_data
  user_data_replace_on_change = true
  tags                        = merge(local.tags, { Name = "${var.name}-coordinator" })

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_size = 16
    volume_type = "gp3"
    encrypted   = true
    kms_key_id  = var.kms_key_arn
    tags        = local.tags
  }

  lifecycle {
    # A newer image alone is no reason for a new coordinator.
    ignore_changes = [ami]

    precondition {
      condition     = length(local.coordinator_user_data) <= 16384
      error_message = "The coordinator's user data is longer than the 16 KiB that EC2 takes: shorten instance_types."
    }
  }

  depends_on = [aws_iam_role_policy.coordinator, aws_route.out]
}

resource "aws_volume_attachment" "records" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.records.id
  instance_id                    = aws_instance.coordinator.id
  stop_instance_before_detaching = true
}
