import Bytes
import Store
import TLS
import Wire

/// What changes the authorities for devices' certificates (attestation 5.1).
package enum AuthorityCommand: Sendable {
    /// Creates without a condition, else changes; nil leaves an authority as verified as it is, unless its certificate is another one.
    case put(String, Certificate, isVerified: Bool?, IfMatch)
    /// A new code for the holder to sign.
    case makeCode(String, IfMatch)
    /// The holder's proof: a certificate that it has issued for the code.
    case verify(String, proof: Certificate, IfMatch)
    case delete(String, IfMatch)
}

extension Registry {
    /// Authorities that there may be (attestation 5.1).
    package static let mostAuthorities = 25
    /// Of a verification code, which is these in hexadecimal digits.
    private static let codeBytes = 24

    static func apply(
        _ command: AuthorityCommand, in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> RegistryOutcome {
        switch command {
        case .put(let name, let certificate, let isVerified, let condition):
            return .authority(try put(name, certificate, isVerified, condition, in: transaction, now: now))
        case .makeCode(let name, let condition):
            var authority = try require(authority: name, in: transaction)
            try condition.check(authority.etag)
            authority.verificationCode = Hex.encode([UInt8].random(count: codeBytes), uppercase: true)
            return .authority(try save(authority, in: transaction, now: now))
        case .verify(let name, let proof, let condition):
            var authority = try require(authority: name, in: transaction)
            try condition.check(authority.etag)
            guard let code = authority.verificationCode else {
                throw .invalidOperation("authority \(name) has no verification code: ask for one first")
            }
            guard let signed = proof.commonName, signed.utf8.elementsEqual(code.utf8) else {
                throw .argumentInvalid("the subject of the proof is not CN=\(code), the verification code")
            }
            guard proof.isIssued(by: authority.certificate) else {
                throw .argumentInvalid("the proof was not signed by the key of \(authority.certificate.subject)")
            }
            authority.isVerified = true
            authority.verificationCode = nil
            return .authority(try save(authority, in: transaction, now: now))
        case .delete(let name, let condition):
            let authority = try require(authority: name, in: transaction)
            try condition.check(authority.etag)
            try stored { () throws(StoreError) in
                try transaction.delete(.authorities, name)
                try transaction.log(Change(.authorityUpdated, name: name, aspects: .authentication))
            }
            return .done
        }
    }

    private static func put(
        _ name: String, _ certificate: Certificate, _ isVerified: Bool?, _ condition: IfMatch, in transaction: borrowing WriteTransaction,
        now: Timestamp
    ) throws(RegistryError) -> Authority {
        guard Identifier.isValidPolicyName(name) else {
            throw .argumentInvalid("an authority's name has 1 to 64 letters, digits, hyphens, dots and underscores")
        }
        guard certificate.isCA else {
            throw .argumentInvalid("\(certificate.subject) is no CA: it needs basicConstraints CA:true, and keyCertSign in its key usage")
        }
        var authority: Authority, aspects: Change.Aspects = []
        switch (try find(authority: name, in: transaction), condition) {
        case (nil, .any), (nil, .etag): throw .authorityNotFound(name)
        case (_?, .absent): throw .authorityAlreadyExists(name)
        case (nil, .absent):
            guard try authorities(in: transaction).count < mostAuthorities else { throw .tooManyAuthorities }
            authority = Authority(name: name, certificate: certificate, isVerified: isVerified ?? false, now: now)
        case (let existing?, _):
            try condition.check(existing.etag)
            authority = existing
            let isSame = existing.certificate.isSame(as: certificate)
            authority.certificate = certificate
            authority.isVerified = isVerified ?? (isSame && existing.isVerified)
            if existing.isVerified, !isSame || !authority.isVerified { aspects = .authentication }
            if !isSame || authority.isVerified { authority.verificationCode = nil }
        }
        return try save(authority, aspects, in: transaction, now: now)
    }

    /// - Parameter aspects: `authentication` when devices that came in by it may not be here any more.
    private static func save(
        _ authority: Authority, _ aspects: Change.Aspects = [], in transaction: borrowing WriteTransaction, now: Timestamp
    ) throws(RegistryError) -> Authority {
        var authority = authority
        authority.updatedTime = now
        authority.etag = try freshETag(in: transaction, now: now)
        try stored { () throws(StoreError) in
            try transaction.put(.authorities, authority.name, authority.record)
            try transaction.log(Change(.authorityUpdated, name: authority.name, aspects: aspects))
        }
        return authority
    }

    // MARK: - Reading

    /// Whether devices that were let in by an authority may stay: it is there, verified, and has the same certificate.
    package func stillTrusts(authority name: String, thumbprint: String) throws(RegistryError) -> Bool {
        let found = try read { transaction throws(RegistryError) in try Self.find(authority: name, in: transaction) }
        return found.map { $0.isVerified && $0.certificate.sha256Thumbprint == thumbprint } ?? false
    }

    /// All authorities, in the order of their names.
    package func authorities() throws(RegistryError) -> [Authority] {
        try read { transaction throws(RegistryError) in try Self.authorities(in: transaction) }
    }

    /// The authority, or `authorityNotFound`.
    package func authority(_ name: String) throws(RegistryError) -> Authority {
        try read { transaction throws(RegistryError) in try Self.require(authority: name, in: transaction) }
    }

    static func authorities(in transaction: borrowing some Snapshot & ~Copyable) throws(RegistryError) -> [Authority] {
        try stored { () throws(StoreError) in
            try transaction.collect(.authorities) { _, value throws(StoreError) in try decode(authority: value) }
        }
    }

    private static func find(
        authority name: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> Authority? {
        guard Identifier.isValidPolicyName(name) else { return nil }
        return try stored { () throws(StoreError) in
            try transaction.lend(.authorities, name) { bytes throws(StoreError) in try decode(authority: bytes) }
        }
    }

    private static func require(
        authority name: String, in transaction: borrowing some Snapshot & ~Copyable
    ) throws(RegistryError) -> Authority {
        guard let authority = try find(authority: name, in: transaction) else { throw .authorityNotFound(name) }
        return authority
    }

    private static let authoritiesRead = RecordMemo<Authority>()

    private static func decode(authority bytes: RawSpan) throws(StoreError) -> Authority {
        try authoritiesRead.value(of: bytes) { bytes throws(StoreError) in
            guard let authority = Authority(record: bytes) else { throw .damaged(path: "registry", reason: "an authority's record") }
            return authority
        }
    }
}
