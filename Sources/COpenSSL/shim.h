// OpenSSL 3, and a function for each macro that Swift cannot reach. No logic.
#ifndef COPENSSL_SHIM_H
#define COPENSSL_SHIM_H
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

static inline long cssl_ctx_set_mode(SSL_CTX *c, long m) { return SSL_CTX_set_mode(c, m); }
static inline void cssl_keep_buffers(SSL *s, int keep) {
    if (keep) SSL_clear_mode(s, SSL_MODE_RELEASE_BUFFERS);
    else SSL_set_mode(s, SSL_MODE_RELEASE_BUFFERS);
}
static inline int cssl_ctx_set_min_version(SSL_CTX *c, int v) { return SSL_CTX_set_min_proto_version(c, v); }
static inline int cssl_ctx_set_max_version(SSL_CTX *c, int v) { return SSL_CTX_set_max_proto_version(c, v); }
static inline int cssl_ctx_set_groups(SSL_CTX *c, const char *list) { return (int)SSL_CTX_set1_groups_list(c, list); }
static inline long cssl_ctx_set_cache_mode(SSL_CTX *c, long m) { return SSL_CTX_set_session_cache_mode(c, m); }
static inline long cssl_ctx_set_max_cert_list(SSL_CTX *c, long n) { return SSL_CTX_set_max_cert_list(c, n); }
static inline int cssl_mac_init_sha256(EVP_MAC_CTX *c, const unsigned char *key, size_t n) {
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0), OSSL_PARAM_construct_end()};
    return EVP_MAC_init(c, key, n, parameters);
}
static inline int cssl_err_is_alert(unsigned long e) {
    return ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) >= SSL_AD_REASON_OFFSET && ERR_GET_REASON(e) < SSL_AD_REASON_OFFSET + 256;
}
static inline int cssl_err_alert(unsigned long e) { return ERR_GET_REASON(e) - SSL_AD_REASON_OFFSET; }
static inline long cssl_set_host_name(SSL *s, const char *name) { return SSL_set_tlsext_host_name(s, name); }
static inline int cssl_sk_x509_num(const STACK_OF(X509) *s) { return s ? sk_X509_num(s) : 0; }
static inline X509 *cssl_sk_x509_value(const STACK_OF(X509) *s, int i) { return sk_X509_value(s, i); }
static inline STACK_OF(X509) *cssl_sk_x509_new(void) { return sk_X509_new_null(); }
static inline int cssl_sk_x509_push(STACK_OF(X509) *s, X509 *x) { return sk_X509_push(s, x); }
static inline void cssl_sk_x509_free(STACK_OF(X509) *s) { sk_X509_free(s); }
static inline GENERAL_NAMES *cssl_names_new(void) { return sk_GENERAL_NAME_new_null(); }
static inline int cssl_names_push(GENERAL_NAMES *s, GENERAL_NAME *n) { return sk_GENERAL_NAME_push(s, n); }
static inline int cssl_names_num(const GENERAL_NAMES *s) { return s ? sk_GENERAL_NAME_num(s) : 0; }
static inline const GENERAL_NAME *cssl_names_value(const GENERAL_NAMES *s, int i) { return sk_GENERAL_NAME_value(s, i); }
static inline void cssl_extensions_free(STACK_OF(X509_EXTENSION) *s) { sk_X509_EXTENSION_pop_free(s, X509_EXTENSION_free); }
static inline int cssl_oids_num(const EXTENDED_KEY_USAGE *s) { return s ? sk_ASN1_OBJECT_num(s) : 0; }
static inline const ASN1_OBJECT *cssl_oids_value(const EXTENDED_KEY_USAGE *s, int i) { return sk_ASN1_OBJECT_value(s, i); }
static inline long cssl_bio_data(BIO *b, char **data) { return BIO_get_mem_data(b, data); }
static inline int cssl_print_name(BIO *b, const X509_NAME *n) {
    return X509_NAME_print_ex(b, n, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
}
static inline int cssl_err_lib(unsigned long e) { return ERR_GET_LIB(e); }
static inline int cssl_err_reason(unsigned long e) { return ERR_GET_REASON(e); }
static inline uint64_t cssl_options(void) {
    return SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
}
static inline uint64_t cssl_option_ktls(void) { return SSL_OP_ENABLE_KTLS; }
static inline uint64_t cssl_option_no_ticket(void) { return SSL_OP_NO_TICKET; }
static inline int cssl_is_unexpected_eof(unsigned long e) {
    return ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
}
#endif
