"""imaplib and poplib against a node: each step asserts what RFC 3501 and RFC 1939 promise."""
import imaplib, poplib, ssl, sys

imaps, imap, pop3s, pop3 = map(int, sys.argv[1:5])
password = sys.argv[5]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def ok(answer):
    assert answer[0] in ("OK", "BYE"), answer
    return answer[1]


for connect in (
    lambda: imaplib.IMAP4_SSL("127.0.0.1", imaps, ssl_context=context),
    lambda: imaplib.IMAP4("127.0.0.1", imap),
):
    m = connect()
    if not isinstance(m, imaplib.IMAP4_SSL):
        assert "LOGINDISABLED" in m.capabilities, m.capabilities
        ok(m.starttls(context))
    try:
        m.login("ann@example.test", "wrong")
        raise SystemExit("a wrong password was taken")
    except imaplib.IMAP4.error as e:
        assert b"AUTHENTICATIONFAILED" in e.args[0], e
    ok(m.login("ann@example.test", password))
    assert ok(m.select("INBOX"))[0] == b"2"
    assert ok(m.search(None, "SUBJECT", "number"))[0] == b"1 2"
    data = ok(m.fetch("1", "(ENVELOPE BODYSTRUCTURE RFC822.SIZE FLAGS INTERNALDATE BODY.PEEK[HEADER.FIELDS (SUBJECT)])"))
    assert b"Subject: number 0" in data[0][1], data
    ok(m.store("1", "+FLAGS", "(\\Seen custom)"))
    assert b"custom" in ok(m.fetch("1", "(FLAGS)"))[0]
    ok(m.create('"Work/Plans &- more"'))
    assert any(b"Work" in line for line in ok(m.list()))
    ok(m.copy("1:2", '"Work/Plans &- more"'))
    ok(m.append("Drafts", "(\\Draft)", None, b"Subject: draft\r\n\r\ntext\r\n"))
    assert ok(m.status("Drafts", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))[0].count(b"MESSAGES") == 1
    ok(m.select('"Work/Plans &- more"'))
    ok(m.store("1:2", "+FLAGS", "(\\Deleted)"))
    assert len(ok(m.expunge())) == 2
    ok(m.close())
    ok(m.delete('"Work/Plans &- more"'))
    ok(m.delete("Work"))
    ok(m.rename("Archive", "Old"))
    ok(m.rename("Old", "Archive"))
    ok(m.subscribe("Archive"))
    assert any(b"Archive" in line for line in ok(m.lsub()))
    assert ok(m.noop()) is not None
    m.logout()

for connect in (
    lambda: poplib.POP3_SSL("127.0.0.1", pop3s, context=context),
    lambda: poplib.POP3("127.0.0.1", pop3),
):
    p = connect()
    if not isinstance(p, poplib.POP3_SSL):
        p.stls(context)
    p.user("ann@example.test")
    p.pass_(password)
    count, size = p.stat()
    assert count == 2 and size > 0, (count, size)
    assert len(p.list()[1]) == 2
    uidl = p.uidl()[1]
    assert len(set(uidl)) == 2, uidl
    assert b"Subject: number 0" in p.retr(1)[1]
    assert b"" in p.top(2, 0)[1]
    p.dele(1)
    p.rset()
    p.quit()
