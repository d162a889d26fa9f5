# An AMI with nagaya, made of the newest ECS-optimized Amazon Linux 2023.

variable "package" {
  type        = string
  description = "The .rpm for the architecture, as `make package` leaves it in dist/."
}

variable "architecture" {
  type        = string
  description = "That of the image: x86_64 or arm64."
  default     = "x86_64"
  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "The architecture must be x86_64 or arm64."
  }
}

variable "region" {
  type        = string
  description = "The Region in which the image is built."
}

variable "subnet_id" {
  type        = string
  description = "A subnet for the building instance, from which it reaches the package repositories; empty takes the default network."
  default     = ""
}

locals {
  now = formatdate("YYYYMMDD-hhmmss", timestamp())
}

source "amazon-ebs" "nagaya" {
  ami_name        = "nagaya-ecs-al2023-${var.architecture}-${local.now}"
  ami_description = "nagaya on the ECS-optimized Amazon Linux 2023"
  region          = var.region
  subnet_id       = var.subnet_id
  instance_type   = var.architecture == "arm64" ? "t4g.small" : "t3.small"
  ssh_username    = "ec2-user"

  source_ami_filter {
    filters = {
      name                = "al2023-ami-ecs-hvm-2023.*-kernel-*-${var.architecture}"
      architecture        = var.architecture
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = ["amazon"]
    most_recent = true
  }

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  tags = {
    Name        = "nagaya-ecs-al2023-${var.architecture}-${local.now}"
    source_ami  = "{{ .SourceAMI }}"
    source_name = "{{ .SourceAMIName }}"
  }
}

build {
  sources = ["source.amazon-ebs.nagaya"]

  provisioner "file" {
    source      = var.package
    destination = "/tmp/nagaya.rpm"
  }

  provisioner "shell" {
    script          = "${path.root}/bake.sh"
    execute_command = "sudo bash {{ .Path }} /tmp/nagaya.rpm"
  }
}
