# What the two kinds of machines may do. Neither holds a key: both take short-lived credentials from their roles.

data "aws_iam_policy_document" "ec2_assumes" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

locals {
  ec2_arn = "arn:${local.partition}:ec2:${local.region}:${local.account}"
  buckets = concat([aws_s3_bucket.this.arn], [for name in var.data_buckets : "arn:${local.partition}:s3:::${name}"])
  readable = concat(
    ["${aws_s3_bucket.this.arn}/bundles/*", "${aws_s3_bucket.this.arn}/data/*"],
    [for name in var.data_buckets : "arn:${local.partition}:s3:::${name}/*"],
  )
}

# Workers.

resource "aws_iam_role" "worker" {
  name               = "${var.name}-worker"
  assume_role_policy = data.aws_iam_policy_document.ec2_assumes.json
  tags               = local.tags
}

resource "aws_iam_instance_profile" "worker" {
  name = "${var.name}-worker"
  role = aws_iam_role.worker.name
  tags = local.tags
}

data "aws_iam_policy_document" "worker" {
  statement {
    sid       = "ReadProgramAndData"
    actions   = ["s3:GetObject"]
    resources = local.readable
  }
  statement {
    # Deleting is retention; the bucket keeps what was deleted for a while.
    sid       = "KeepCheckpoints"
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${aws_s3_bucket.this.arn}/runs/*"]
  }
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = local.buckets
  }
  dynamic "statement" {
    for_each = var.kms_key_arn[*]
    content {
      sid       = "UseKey"
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "worker" {
  name   = "trainctl"
  role   = aws_iam_role.worker.id
  policy = data.aws_iam_policy_document.worker.json
}

# The coordinator.

resource "aws_iam_role" "coordinator" {
  name               = "${var.name}-coordinator"
  assume_role_policy = data.aws_iam_policy_document.ec2_assumes.json
  tags               = local.tags
}

resource "aws_iam_instance_profile" "coordinator" {
  name = "${var.name}-coordinator"
  role = aws_iam_role.coordinator.name
  tags = local.tags
}

# Session Manager, in place of SSH.
resource "aws_iam_role_policy_attachment" "session_manager" {
  role       = aws_iam_role.coordinator.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

data "aws_iam_policy_document" "coordinator" {
  # checkov:skip=CKV_AWS_356:The Describe calls of EC2 know no resources; they are bound to the region.
  statement {
    sid = "Look"
    actions = [
      "ec2:DescribeAvailabilityZones",
      "ec2:DescribeFleetInstances",
      "ec2:DescribeFleets",
      "ec2:DescribeInstanceStatus",
      "ec2:DescribeInstanceTypeOfferings",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeInstances",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:DescribeLaunchTemplates",
      "ec2:DescribeSpotPriceHistory",
      "ec2:DescribeSubnets",
    ]
    resources = ["*"]
    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [local.region]
    }
  }

  # A machine must carry the cluster's tag from its first moment.
  statement {
    sid       = "LaunchTaggedMachines"
    actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = ["${local.ec2_arn}:instance/*"]
    condition {
      test     = "StringLike"
      variable = "aws:RequestTag/trainctl:cluster"
      values   = ["?*"]
    }
  }
  statement {
    sid     = "LaunchFromThisTemplate"
    actions = ["ec2:CreateFleet", "ec2:RunInstances"]
    resources = concat(
      [
        aws_launch_template.worker.arn,
        aws_security_group.workers.arn,
        "arn:${local.partition}:ec2:${local.region}::image/${local.image_id}",
        "${local.ec2_arn}:fleet/*",
        "${local.ec2_arn}:network-interface/*",
        "${local.ec2_arn}:spot-instances-request/*",
        "${local.ec2_arn}:volume/*",
      ],
      [for subnet in aws_subnet.workers : subnet.arn],
    )
  }
  # User data differs from machine to machine, and a fleet takes it from a version of the template.
  statement {
    sid       = "KeepVersionsOfThisTemplate"
    actions   = ["ec2:CreateLaunchTemplateVersion", "ec2:DeleteLaunchTemplateVersions"]
    resources = [aws_launch_template.worker.arn]
  }
  # While it is launched only: nobody can be made one of ours later.
  statement {
    sid     = "TagWhatIsLaunched"
    actions = ["ec2:CreateTags"]
    resources = [
      "${local.ec2_arn}:fleet/*",
      "${local.ec2_arn}:instance/*",
      "${local.ec2_arn}:network-interface/*",
      "${local.ec2_arn}:spot-instances-request/*",
      "${local.ec2_arn}:volume/*",
    ]
    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateFleet", "RunInstances"]
    }
  }
  statement {
    sid       = "EndMachinesOfThisDeployment"
    actions   = ["ec2:TerminateInstances"]
    resources = ["${local.ec2_arn}:instance/*"]
    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/${local.deployment_tag}"
      values   = [var.name]
    }
  }
  statement {
    sid       = "GiveMachinesTheWorkersRole"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.worker.arn]
    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ec2.amazonaws.com"]
    }
  }
  # Once in an account, on its first spot request.
  statement {
    sid       = "LetSpotBeUsed"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot"]
    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values   = ["spot.amazonaws.com"]
    }
  }

  statement {
    sid       = "ReadProgramDataAndCheckpoints"
    actions   = ["s3:GetObject"]
    resources = concat(local.readable, ["${aws_s3_bucket.this.arn}/runs/*"])
  }
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = local.buckets
  }
  dynamic "statement" {
    for_each = var.kms_key_arn[*]
    content {
      sid       = "UseKey"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "coordinator" {
  name   = "trainctl"
  role   = aws_iam_role.coordinator.id
  policy = data.aws_iam_policy_document.coordinator.json
}
