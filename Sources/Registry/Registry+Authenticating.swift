import Store
import TLS
import Wire

/// A device or module that has proved itself.
package struct DevicePrincipal: Equatable, Sendable {
    package enum Method: Equatable, Sendable {
        /// The identity's own key.
        case key
        /// A policy's key with DeviceConnect.
        case policy(String)
        case thumbprint
        /// A certificate under the authority of this name, which has this SHA-256 thumbprint.
        case authority(name: String, thumbprint: String)
    }

    package let name: ClientIdentity
    package let generationID: String
    package let method: Method
    /// When the token ends, in seconds since 1970; nil for a certificate. Cut the connection at
    /// `expiry + SASToken.toleranceSeconds`.
    package let expiry: Int64?
}

/// Ways of getting in that a hub has switched off.
package struct AttestationSwitches: Equatable, Sendable {
    /// Nobody comes in by a policy's key.
    package var disablesLocalAuth = false
    /// No device, or no module, comes in by a key of its own.
    package var disablesDeviceSAS = false, disablesModuleSAS = false
    /// Nobody comes in by a certificate under an authority.
    package var refusesAuthorities = false

    package init() {}
}

/// A service client that has proved itself and may do what it asked for.
package struct ServicePrincipal: Equatable, Sendable {
    package let policy: String
    package let rights: Rights
    /// Seconds since 1970.
    package let expiry: Int64
}

extension Registry {
    /// Checks a device's or module's proof, by what the registry has of it (attestation 3 to 5). Of a token and a certificate the one
    /// decides that the identity is known by, and the other is ignored.
    ///
    /// - Parameters:
    ///   - token: the CONNECT's password, or the field `Authorization`.
    ///   - certificates: what the handshake has brought.
    ///   - hosts: names that the hub answers to, without ports.
    ///   - now: seconds since 1970.
    package func authenticateDevice(
        token: String?, certificates: ClientCertificates, as name: ClientIdentity, hosts: [String], switches: AttestationSwitches,
        now: Int64
    ) throws(Refusal) -> DevicePrincipal {
        let hasToken = token?.isEmpty == false
        guard hasToken || !certificates.isEmpty else { throw .noCredential }
        return try snapshot { transaction throws(Refusal) in
            let identity = try Self.usable(name, in: transaction)
            var expiry: Int64?
            let method: DevicePrincipal.Method
            switch identity.authentication {
            case .selfSigned where !certificates.isEmpty:
                try Self.check(certificates, by: identity.authentication, now: now)
                method = .thumbprint
            case .certificateAuthority where !certificates.isEmpty:
                guard !switches.refusesAuthorities else { throw .switchedOff("refuse-ca-devices-on-https") }
                method = try Self.vouching(for: certificates, name: name.clientID, in: transaction, now: now)
            default:
                guard hasToken else { throw .wrongAttestation }
                let token = try Self.parse(token)
                method = try Self.check(token, of: identity, as: name, hosts: hosts, switches, in: transaction, now: now)
                expiry = token.expiry
            }
            return DevicePrincipal(name: name, generationID: identity.generationID, method: method, expiry: expiry)
        }
    }

    /// A token of the identity itself, or of a policy that may speak for every device.
    private static func check(
        _ token: SASToken, of identity: Identity, as name: ClientIdentity, hosts: [String], _ switches: AttestationSwitches,
        in transaction: borrowing ReadTransaction, now: Int64
    ) throws(Refusal) -> DevicePrincipal.Method {
        if let policyName = token.policy {
            let policy = try signer(policyName, of: token, in: transaction)
            try check(token, hosts: hosts, path: name.path, now: now)
            guard policy.rights.contains(.deviceConnect) else { throw .missingRight(.deviceConnect) }
            guard !switches.disablesLocalAuth else { throw .switchedOff("disable-local-auth") }
            return .policy(policyName)
        }
        guard case .sas(let primary, let secondary) = identity.authentication else { throw .wrongAttestation }
        // Both are tried always, so that the time taken does not tell which one it was.
        let isPrimary = token.verify(key: primary), isSecondary = token.verify(key: secondary)
        guard isPrimary || isSecondary else { throw .wrongSignature }
        try check(token, hosts: hosts, path: name.path, now: now)
        if name.moduleID == nil, switches.disablesDeviceSAS { throw .switchedOff("disable-device-sas") }
        if name.moduleID != nil, switches.disablesModuleSAS { throw .switchedOff("disable-module-sas") }
        return .key
    }

    /// A leaf that is known by its thumbprint (attestation 4).
    private static func check(_ certificates: ClientCertificates, by known: Authentication, now: Int64) throws(Refusal) {
        func accepted() throws(ChainFault) -> Bool {
            let leaf = try certificates.leaf()
            guard known.accepts(sha1: leaf.sha1Thumbprint, sha256: leaf.sha256Thumbprint) else { return false }
            try ClientChain.judgePinned(leaf, at: now)
            return true
        }
        let isAccepted: Bool
        do throws(ChainFault) { isAccepted = try accepted() } catch { throw .certificate(error) }
        guard isAccepted else { throw .wrongCertificate }
    }

    /// The authority under which a chain is good for a device of this name (attestation 5.2).
    private static func vouching(
        for certificates: ClientCertificates, name: String, in transaction: borrowing ReadTransaction, now: Int64
    ) throws(Refusal) -> DevicePrincipal.Method {
        let all: [Authority]
        do throws(RegistryError) { all = try authorities(in: transaction) } catch { throw .store("\(error)") }
        func judge(_ verified: Bool) throws(ChainFault) -> DevicePrincipal.Method {
            let some = all.filter { $0.isVerified == verified }
            let found = try certificates.judge(name: name, authorities: some.map(\.certificate), at: now)
            return .authority(
                name: some.first { $0.certificate.isSame(as: found) }?.name ?? "", thumbprint: found.sha256Thumbprint)
        }
        do throws(ChainFault) { return try judge(true) } catch {
            // For the log alone: would it have been good?
            if all.contains(where: { !$0.isVerified }), case .authority(let name, _)? = try? judge(false) {
                throw .unverifiedAuthority(name)
            }
            throw .certificate(error)
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
        authorization: String?, needing rights: Rights, path: String, hosts: [String], switches: AttestationSwitches = .init(), now: Int64
    ) throws(Refusal) -> ServicePrincipal {
        let token = try Self.parse(authorization)
        guard let name = token.policy else { throw .unknownPolicy }
        return try snapshot { transaction throws(Refusal) in
            let policy = try Self.signer(name, of: token, in: transaction)
            try Self.check(token, hosts: hosts, path: path, now: now)
            guard !policy.rights.effective.isDisjoint(with: rights) else { throw .missingRight(rights) }
            guard !switches.disablesLocalAuth else { throw .switchedOff("disable-local-auth") }
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
