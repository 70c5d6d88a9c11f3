"""The workloads of ``finetune``, a module each, since they need different libraries."""
