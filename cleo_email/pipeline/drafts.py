"""The drafts of answers that wait for a person: put into the Drafts mailbox, watched, and taken out again."""

import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime

from cleo_email.crashpoints import crashpoint
from cleo_email.errors import MailboxError, UnreadableMessage
from cleo_email.imap.folders import Folders
from cleo_email.imap.session import RefusedForGood, RefusedForNow
from cleo_email.mail.parse import parse
from cleo_email.mail.thread import content_hash
from cleo_email.pipeline.takeover import SharedFolders, Takeover
from cleo_email.runtime import MINUTE, SECOND, Clock, now_ms
from cleo_email.store import Draft, Effects, Record, State, Store

log = logging.getLogger(__name__)

LOCK = "drafts"  # its name in the store: one process at a time changes what is in Drafts
# A client may take the draft out before its mail stands in Sent. So much later that is looked at again.
LOOK_AGAIN_MS = 3 * SECOND
NEXT_PUT_MS = MINUTE
DELETED = "a person deleted the draft"
TAKEN_OUT = (
    "the draft was taken out of Drafts at the same moment, perhaps to send it: approve again to send this "
    "answer"
)
EDITED = (
    "the draft was edited in the mail client: send it from there, or approve with the text to send as body"
)
# A person sends the draft, and it is to say no more that a machine did.
_MARKS = re.compile(rb"^(?:auto-submitted|x-auto-response-suppress):.*\r\n(?:[ \t].*\r\n)*", re.I | re.M)


@dataclass
class DraftFolder:
    """Brings the Drafts mailbox into line with the records, and the records with what people do there.

    ``enabled``: EMAIL_DRAFTS. ``fault``: why Drafts could not be looked at, while Sent could.
    Every method but ``clear`` raises MailboxError, and all StoreUnavailable.
    """

    store: Store
    folders: SharedFolders
    takeover: Takeover
    _: KW_ONLY
    enabled: bool = True
    clock: Clock = now_ms
    fault: str = field(init=False, default="")

    # --- what is due --------------------------------------------------------------------------------------

    def keep_up(self, ids: Iterable[str]) -> None:
        """Put and remove the drafts of these records; look again at those that were missed."""
        missed: list[str] = []
        refused: MailboxError | None = None
        with self.store.locks.hold(LOCK) as lock:
            if lock is None:
                return  # all stay due
            for id_ in ids:
                try:
                    if not self._keep_up(id_):
                        missed.append(id_)
                except (RefusedForNow, RefusedForGood) as error:
                    refused = error  # it stays due
        if missed:
            self.watch(missed)
        if refused:
            raise refused

    def _keep_up(self, id_: str) -> bool:
        """Return False where it has to be looked again what became of the draft."""
        record = self.store.messages.find(id_)
        draft = self.store.drafts.get(id_)
        if record is None:
            self.store.drafts.gone(id_)
            self.store.drafting.done(id_)
            return True
        is_missed = record.state is State.REVIEW and draft is not None and draft.missed > 0
        if record.state is State.REVIEW:
            if not is_missed and not self._put(record, draft):
                return True
        elif draft:
            with self.folders.use() as folders:
                self._remove(folders, record, draft)
        self.store.drafting.done_in(id_, record.state)
        return not is_missed

    def _put(self, record: Record, begun: Draft | None) -> bool:
        """Put the draft there unless it is. Return False where it is tried again later."""
        answer = self.store.messages.answer(record.id)
        if answer is None or not self.enabled:
            return True
        if begun and begun.message_id != answer.message_id:  # of an earlier answer to the same mail
            with self.folders.use() as folders:
                self._remove(folders, record, begun)
            return False
        if begun and begun.place:
            return True
        draft = Draft(record.thread_id, answer.message_id, record.message_id)
        with self.folders.use() as folders:
            place = folders.find_draft(draft.message_id, "") if begun else ""
            if not place:
                self.store.drafts.put(record.id, draft)
                crashpoint("draft-before-put")
                # Where this process stood still, another may have put it there. Two look like an edited one.
                if not self.store.locks.holds(LOCK):
                    log.warning("message %s: another process sees to its draft", record.id)
                    return False
                try:
                    place = folders.put_draft(
                        draft_of(answer.source), datetime.fromtimestamp(self.clock() / 1000, UTC)
                    )
                except RefusedForGood as error:
                    self.store.drafts.gone(record.id)
                    self._note(record, f"no draft: {error}")
                    return True
                except RefusedForNow as error:
                    log.warning("message %s has no draft yet: %s", record.id, error)
                    self.store.drafting.add(record.id, self.clock() + NEXT_PUT_MS)
                    return False
                crashpoint("draft-after-put")
            self.store.drafts.put(record.id, replace(draft, place=place))
        return True

    def _note(self, record: Record, why: str) -> None:
        """Add to the reason, once; it stays as it is where people have decided meanwhile."""
        log.warning("message %s: %s", record.id, why)
        if why not in record.reason:
            reason = f"{record.reason}; {why}" if record.reason else why
            self._move(record, State.REVIEW, "", Effects(fields={"reason": reason}), quiet=True)

    # --- what people do with them ---------------------------------------------------------------------------

    def watch(self, ids: Collection[str] = ()) -> None:
        """Look what became of the drafts of these records, or of all, and what people have answered.

        First which drafts are gone, then Sent: a draft that is gone and was sent stands there, or will within
        some seconds. What is unexplained twice was deleted.
        """
        self.fault = ""
        if not self.store.drafts.all():
            self.takeover.look(self.takeover.waiting())
            return
        with self.store.locks.hold(LOCK) as lock, self.folders.use() as folders:
            if lock is None:
                self.takeover.look(self.takeover.waiting())
                return
            drafts = self.store.drafts.all()  # as nobody else changes them now
            chosen = {id_: draft for id_, draft in drafts.items() if not ids or id_ in ids}
            # Of what is approved, a copy saved anew stops the answer: see _remove.
            waiting = {one.id for one in self.store.messages.load(list(chosen)) if one.state is State.REVIEW}
            try:
                gone = self._gone(folders, {id_: chosen[id_] for id_ in waiting})
            except (RefusedForNow, RefusedForGood) as error:
                self.fault, gone = str(error), set()  # where nobody can look, nothing was deleted
            self.takeover.look(self.takeover.waiting())
            records = [one for one in self.store.messages.load(list(chosen)) if one.state is State.REVIEW]
            flagged = {one.id for one in self.takeover.flagged(records)}
            for record in records:
                self._judge(record, gone=record.id in gone, flagged=record.id in flagged)
            for id_ in chosen.keys() - {one.id for one in records}:
                self.store.drafting.add(id_, self.clock())  # it is not to be there any more

    def _gone(self, folders: Folders, drafts: Mapping[str, Draft]) -> set[str]:
        """Return those that are not there any more. One that was saved anew is noted at its new place."""
        there = folders.drafts_there([draft.place for draft in drafts.values() if draft.place])
        gone: set[str] = set()
        for id_, draft in drafts.items():
            if draft.place in there or draft.removing:
                continue
            place = folders.find_draft(draft.message_id, draft.answers if draft.place else "")
            if place:
                edited = draft.edited or not self._is_ours(id_, folders.draft_source(place))
                self.store.drafts.put(id_, replace(draft, place=place, edited=edited, missed=0))
            elif draft.place:  # else it was not put there yet
                gone.add(id_)
        return gone

    def _is_ours(self, id_: str, source: bytes) -> bool:
        """Return whether the draft says what we have put there: a server may give all mail new UIDs."""
        answer = self.store.messages.answer(id_)
        if answer is None:
            return False
        try:
            found, ours = parse(source), parse(answer.source)
        except UnreadableMessage:
            return False
        return found.subject == ours.subject and content_hash(found, source) == content_hash(
            ours, answer.source
        )

    def _judge(self, record: Record, *, gone: bool, flagged: bool) -> None:
        """Take what is still unexplained at the second look as it is: deleted, or answered otherwise."""
        draft, now = self.store.drafts.get(record.id), self.clock()
        if draft is None:
            return
        if not gone and not flagged:
            if draft.missed:
                self.store.drafts.put(record.id, replace(draft, missed=0))
            return
        if not draft.missed:
            self.store.drafts.put(record.id, replace(draft, missed=now))
        if not draft.missed or now - draft.missed < LOOK_AGAIN_MS:
            self.store.drafting.add(record.id, (draft.missed or now) + LOOK_AGAIN_MS)
        elif not gone:
            self.takeover.answered_by_flag(record)
        else:
            effects = Effects(drafting=now, filing=now)
            if self._move(record, State.IGNORED, DELETED, effects):
                self.store.drafts.gone(record.id)

    # --- taking them out ------------------------------------------------------------------------------------

    def clear(self, record: Record) -> str | None:
        """Take the drafts of the thread out before an answer of ours leaves.

        Return why the answer has to wait, '' where it need not, None where there were no drafts. The record
        itself goes back to ``review``, or is ``replied``, where a person had the draft first.
        """
        if not self.store.drafts.of_thread(record.thread_id):
            return None
        try:
            with self.store.locks.hold(LOCK) as lock:
                if lock is None:
                    return "another process is at the drafts"
                drafts = self.store.drafts.of_thread(record.thread_id)  # as nobody else changes them now
                with self.folders.use() as folders:
                    for one in self.store.messages.load(list(drafts)):
                        # Another answer that waits is about another mail.
                        if one.id == record.id or one.state is not State.REVIEW:
                            self._remove(folders, one, drafts[one.id])
        except MailboxError as error:
            return f"the draft cannot be taken out of Drafts: {error}"
        return ""

    def _remove(self, folders: Folders, record: Record, draft: Draft) -> None:
        """Take a draft out. Where it is not where it was, a person may be sending it just now."""
        place = draft.place or folders.find_draft(draft.message_id, "")
        self.store.drafts.put(record.id, replace(draft, place=place, removing=True))
        crashpoint("draft-before-remove")
        removed = bool(place) and folders.remove_draft(place)
        crashpoint("draft-after-remove")
        if draft.place and self._is_left(folders, record, draft, removed=removed):
            return
        self.store.drafts.gone(record.id)

    def _is_left(self, folders: Folders, record: Record, draft: Draft, *, removed: bool) -> bool:
        """Return whether the draft still lies there, edited, and the record waits again."""
        approved = record.state is State.SUBMITTING
        # A client stores what was edited before it removes what was there.
        if copy := self._copy(folders, record, draft, ours_is_gone=removed or draft.removing):
            if approved:
                self.store.drafts.put(record.id, replace(draft, place=copy, edited=True, removing=False))
                if self._wait_again(record, EDITED):
                    return True
            folders.remove_draft(copy)
        if not removed and not draft.removing:
            self.takeover.read_sent()
            if approved:
                self._wait_again(record, TAKEN_OUT)
        return False

    def _copy(self, folders: Folders, record: Record, draft: Draft, *, ours_is_gone: bool) -> str:
        """Return where the draft lies that a person has saved anew, '' for nowhere.

        Where it was we who removed ours, another answer to the mail may be a person's own work.
        """
        place = folders.find_draft(draft.message_id, draft.answers)
        if not place or not ours_is_gone:
            return place
        try:
            mail = parse(folders.draft_source(place))
        except UnreadableMessage:
            return ""
        return place if mail.message_id == draft.message_id or self.takeover.is_like(record, mail) else ""

    def _wait_again(self, record: Record, reason: str) -> bool:
        moved = self._move(
            record, State.REVIEW, reason, Effects(pop=True, fields={"decided": "", "answered_by": ""})
        )
        self.store.drafting.done(record.id)  # no other draft is put beside the one that is under way
        return moved

    def _move(self, record: Record, to: State, reason: str, effects: Effects, *, quiet: bool = False) -> bool:
        """Move the record from the state that it was in. Return False where others were first."""
        return self.takeover.withdrawal.move(record, to, reason, effects, [record.state], quiet=quiet)


def draft_of(source: bytes) -> bytes:
    """Return the bytes of a kept answer as a person is to send them."""
    head, blank, body = source.partition(b"\r\n\r\n")
    return _MARKS.sub(b"", head + b"\r\n").removesuffix(b"\r\n") + blank + body
