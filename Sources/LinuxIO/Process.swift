import CLinux

/// What a process does to itself at its start.
package enum Process {
    /// Raises the soft limit of descriptors to the hard one.
    package static func raiseDescriptorLimit() { clx_raise_descriptor_limit() }

    /// No core dump and no debugger of the same user: secrets stay in memory.
    package static func harden() { clx_harden_process() }
}
