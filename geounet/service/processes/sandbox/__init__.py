"""What holds a process that opens what strangers sent: limits, few decoders, and a sandbox that the kernel keeps."""
