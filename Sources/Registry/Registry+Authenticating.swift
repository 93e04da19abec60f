import Store
import Wire

/// A device or module that has proved itself.
package struct DevicePrincipal: Equatable, Sendable {
    package enum Method: Equatable, Sendable {
        /// The identity's own key.
        case key
        /// A policy's key with DeviceConnect.
        case policy(String)
        case thumbprint
    }

    package let name: ClientIdentity
    package let generationID: String
    package let method: Method
    /// When the token ends, in seconds since 1970; nil for a certificate. Cut the connection at
    /// `expiry + SASToken.toleranceSeconds`.
    package let expiry: Int64?
}

/// A service client that has proved itself and may do what it asked for.
package struct ServicePrincipal: Equatable, Sendable {
    package let policy: String
    package let rights: Rights
    /// Seconds since 1970.
    package let expiry: Int64
}

extension Registry {
    /// Checks a device's or module's token (mqtt-device 4.2, attestation 3).
    ///
    /// - Parameters:
    ///   - token: the CONNECT's password, or the field `Authorization`.
    ///   - hosts: names that the hub answers to, without ports.
    ///   - now: seconds since 1970.
    package func authenticateDevice(
        token: String?, as name: ClientIdentity, hosts: [String], now: Int64
    ) throws(Refusal) -> DevicePrincipal {
        let token = try Self.parse(token)
        return try snapshot { transaction throws(Refusal) in
            let identity = try Self.usable(name, in: transaction)
            let method: DevicePrincipal.Method
            if let policyName = token.policy {
                let policy = try Self.signer(policyName, of: token, in: transaction)
                try Self.check(token, hosts: hosts, path: name.path, now: now)
                guard policy.rights.contains(.deviceConnect) else { throw .missingRight(.deviceConnect) }
                method = .policy(policyName)
            } else {
                guard case .sas(let primary, let secondary) = identity.authentication else { throw .wrongAttestation }
                // Both are tried always, so that the time taken does not tell which one it was.
                let isPrimary = token.verify(key: primary), isSecondary = token.verify(key: secondary)
                guard isPrimary || isSecondary else { throw .wrongSignature }
                try Self.check(token, hosts: hosts, path: name.path, now: now)
                method = .key
            }
            return DevicePrincipal(name: name, generationID: identity.generationID, method: method, expiry: token.expiry)
        }
    }

    /// Checks a device by the leaf of its certificate (attestation 4); its dates have been checked already.
    ///
    /// - Parameter sha1: of the leaf's DER, hexadecimal; `sha256` likewise.
    package func authenticateDevice(sha1: String, sha256: String, as name: ClientIdentity) throws(Refusal) -> DevicePrincipal {
        try snapshot { transaction throws(Refusal) in
            let identity = try Self.usable(name, in: transaction)
            guard case .selfSigned = identity.authentication else { throw .wrongAttestation }
            guard identity.authentication.accepts(sha1: sha1, sha256: sha256) else { throw .wrongCertificate }
            return DevicePrincipal(name: name, generationID: identity.generationID, method: .thumbprint, expiry: nil)
        }
    }

    /// Checks a service call (service-rest 2).
    ///
    /// - Parameters:
    ///   - authorization: the field `Authorization` as received.
    ///   - rights: any one of them is enough.
    ///   - path: of the request, decoded, without slashes at its ends: `devices/dev1`, `twins/dev1/streams/ssh`.
    ///   - now: seconds since 1970.
    package func authenticateService(
        authorization: String?, needing rights: Rights, path: String, hosts: [String], now: Int64
    ) throws(Refusal) -> ServicePrincipal {
        let token = try Self.parse(authorization)
        guard let name = token.policy else { throw .unknownPolicy }
        return try snapshot { transaction throws(Refusal) in
            let policy = try Self.signer(name, of: token, in: transaction)
            try Self.check(token, hosts: hosts, path: path, now: now)
            guard !policy.rights.effective.isDisjoint(with: rights) else { throw .missingRight(rights) }
            return ServicePrincipal(policy: name, rights: policy.rights.effective, expiry: token.expiry)
        }
    }

    private static func parse(_ text: String?) throws(Refusal) -> SASToken {
        guard let text, !text.isEmpty else { throw .noCredential }
        do { return try SASToken(parsing: text) } catch { throw .malformedToken }
    }

    private static func usable(
        _ name: ClientIdentity, in transaction: borrowing ReadTransaction
    ) throws(Refusal) -> Identity {
        do {
            guard let identity = try find(name, in: transaction) else { throw Refusal.unknownIdentity }
            guard identity.isEnabled else { throw Refusal.disabled }
            if name.moduleID != nil, try !require(try deviceName(name.deviceID), in: transaction).isEnabled { throw Refusal.disabled }
            return identity
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw .store("\(error)")
        }
    }

    private static func signer(
        _ name: String, of token: SASToken, in transaction: borrowing ReadTransaction
    ) throws(Refusal) -> Policy {
        let found: Policy?
        do { found = try find(policy: name, in: transaction) } catch { throw .store("\(error)") }
        guard let policy = found else { throw .unknownPolicy }
        let isPrimary = token.verify(key: policy.primaryKey), isSecondary = token.verify(key: policy.secondaryKey)
        guard isPrimary || isSecondary else { throw .wrongSignature }
        return policy
    }

    /// After the signature: a stranger learns nothing from the difference.
    private static func check(_ token: SASToken, hosts: [String], path: String, now: Int64) throws(Refusal) {
        guard token.covers(hosts: hosts, path: path) else { throw .wrongAudience }
        guard !token.isExpired(now: now) else { throw .expired(expiry: token.expiry) }
    }

    /// Runs `body` on one snapshot, with refusals as its errors.
    private func snapshot<Output>(
        _ body: (borrowing ReadTransaction) throws(Refusal) -> Output
    ) throws(Refusal) -> Output {
        try store.read(body)
    }
}

extension Refusal: StoreFailure {
    package init(store error: StoreError) { self = .store("\(error)") }
}
