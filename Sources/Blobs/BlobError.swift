import Glibc
import LinuxIO

/// Why a file was not taken or given.
package enum BlobError: Error, Equatable, Sendable {
    /// What is there has not been counted yet.
    case notReady
    /// Longer than one file may be, in bytes.
    case fileTooLarge(limit: Int)
    /// The device's files would take more than they may, in bytes.
    case deviceFull(limit: Int)
    /// The files of all devices would take more than they may, or the disk is full.
    case hubFull
    /// A directory is in the place of the file, or a file in the place of a directory.
    case nameTaken
    /// There is a file already, and there should be none.
    case exists
    case notFound
    /// A condition on the file that is there does not hold.
    case conditionFailed
    case digestDiffers(ContentDigest.Kind)
    /// A block list names a block that is not there.
    case noSuchBlock
    case system(SystemError)

    /// A failed call by what it means here.
    init(_ error: SystemError) {
        switch error.number {
        case ENOSPC, EDQUOT: self = .hubFull
        case ENOENT: self = .notFound
        case ENOTDIR, EISDIR, EEXIST, ELOOP: self = .nameTaken
        default: self = .system(error)
        }
    }
}
