/// What is wrong with an MQTT packet, given or wanted. The hub answers each by closing (mqtt-device 6).
package enum MQTTError: Error, Equatable {
    /// The packet's remaining length (for one being written: a field's or the packet's length) is over the limit.
    case packetTooLarge(Int)
    /// A fifth byte of remaining length.
    case malformedRemainingLength
    /// Types 0 and 15, and the three of QoS 2 that a hub has no use for (5 to 7).
    case unsupportedType(UInt8)
    /// The fixed header's flags are not those that section 2.2.2 prescribes.
    case reservedFlags
    /// A field runs past the end of its packet.
    case fieldPastEnd
    /// Bytes are left after the last field.
    case trailingBytes
    /// A string is not UTF-8 or holds U+0000.
    case malformedString
    case zeroPacketID
    /// QoS 3, or DUP with QoS 0.
    case malformedQoS
    /// A topic or a filter of no length.
    case emptyTopic
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter, or a SUBACK without a code.
    case emptyList
    /// CONNECT flags that contradict each other, or the reserved one.
    case malformedConnectFlags
    /// A protocol name that no version of MQTT has.
    case unknownProtocol
    /// A CONNACK or SUBACK code that 3.1.1 does not know.
    case unknownCode(UInt8)
}
