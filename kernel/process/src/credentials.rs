//! Who a thread is: user and group ids, capabilities, and the rules of changing them. See credentials(7),
//! capabilities(7).
//!
//! Credentials are values that never change: whoever changes his own makes new ones and puts them in place. Each thread has
//! its own, as on Linux; POSIX wants the threads of a process to share them, and C libraries see to that by changing
//! them in every thread. Where a process is asked who it is, its leader answers, even after it has ended.

use alloc::sync::Arc;
use alloc::vec::Vec;

use abi::{Errno, Result};

use crate::ucounts::UserCounts;

/// A capability, by its number in capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "see capabilities(7)")]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    SetGid = 6,
    SetUid = 7,
    SetPcap = 8,
    NetBindService = 10,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    SysModule = 16,
    SysRawIo = 17,
    SysChroot = 18,
    SysPtrace = 19,
    SysAdmin = 21,
    SysBoot = 22,
    SysNice = 23,
    SysResource = 24,
    SysTime = 25,
    SysTtyConfig = 26,
    Mknod = 27,
    Syslog = 34,
}

/// All capabilities Linux 6 has: 0 to 40.
pub const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// The capabilities that follow the file system user: chown, the file overrides, mknod.
const FILE_CAPABILITIES: u64 = 0b1_1111 | 1 << Capability::Mknod as u8 | 1 << 9 | 1 << 32;

/// Real, effective, saved and file system id of a user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Whose rights it has.
    pub effective: u32,
    /// Whose rights it may take back.
    pub saved: u32,
    /// Whose rights it has with files.
    pub files: u32,
}

impl Ids {
    /// The same everywhere.
    pub const fn all(id: u32) -> Ids {
        Ids { real: id, effective: id, saved: id, files: id }
    }

    fn any_is(&self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2), setgid(2).
    fn set(mut self, id: u32, privileged: bool) -> Result<Ids> {
        if privileged {
            self.real = id;
            self.saved = id;
        } else if id != self.real && id != self.saved {
            return Err(Errno::EPERM);
        }
        self.effective = id;
        self.files = id;
        Ok(self)
    }

    /// setreuid(2), setregid(2); `None` leaves as it is.
    fn set_real_effective(mut self, real: Option<u32>, effective: Option<u32>, privileged: bool) -> Result<Ids> {
        let old = self;
        if let Some(id) = real {
            if !privileged && id != old.real && id != old.effective {
                return Err(Errno::EPERM);
            }
            self.real = id;
        }
        if let Some(id) = effective {
            if !privileged && !old.any_is(id) {
                return Err(Errno::EPERM);
            }
            self.effective = id;
        }
        if real.is_some() || effective.is_some_and(|id| id != old.real) {
            self.saved = self.effective;
        }
        self.files = self.effective;
        Ok(self)
    }

    /// setresuid(2), setresgid(2).
    fn set_all(
        mut self,
        real: Option<u32>,
        effective: Option<u32>,
        saved: Option<u32>,
        privileged: bool,
    ) -> Result<Ids> {
        let old = self;
        if !privileged && [real, effective, saved].into_iter().flatten().any(|id| !old.any_is(id)) {
            return Err(Errno::EPERM);
        }
        self.real = real.unwrap_or(old.real);
        self.effective = effective.unwrap_or(old.effective);
        self.saved = saved.unwrap_or(old.saved);
        self.files = self.effective;
        Ok(self)
    }
}

/// The sets of capabilities(7), a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapabilitySets {
    /// What execve(2) may carry over.
    pub inheritable: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What counts.
    pub effective: u64,
    /// What execve(2) may give at most.
    pub bounding: u64,
    /// What execve(2) carries over to ordinary programs.
    pub ambient: u64,
}

/// Who a thread is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User ids.
    pub users: Ids,
    /// Group ids.
    pub groups: Ids,
    /// Capabilities.
    pub capabilities: CapabilitySets,
    /// `PR_SET_KEEPCAPS`: leaving user 0 keeps the permitted capabilities.
    pub keep_capabilities: bool,
    /// `PR_SET_NO_NEW_PRIVS`: execve(2) gives no rights any more. For good.
    pub no_new_privileges: bool,
    /// What is counted for the real user. Whoever puts credentials in place makes it agree with `users`.
    pub(crate) counts: Arc<UserCounts>,
    /// What file operations look at.
    files: vfs::Credentials,
}

impl Credentials {
    /// The first process's: the superuser with everything. `counts` are his.
    pub fn superuser(counts: Arc<UserCounts>) -> Credentials {
        let capabilities = CapabilitySets {
            inheritable: 0,
            permitted: ALL_CAPABILITIES,
            effective: ALL_CAPABILITIES,
            bounding: ALL_CAPABILITIES,
            ambient: 0,
        };
        Credentials {
            users: Ids::all(0),
            groups: Ids::all(0),
            capabilities,
            keep_capabilities: false,
            no_new_privileges: false,
            counts,
            files: vfs::Credentials::superuser(),
        }
        .with_file_view()
    }

    /// What file operations look at: the file system ids and the effective capabilities.
    pub const fn for_files(&self) -> &vfs::Credentials {
        &self.files
    }

    /// What access(2) looks at: the real ids, and capabilities only for a real user 0.
    pub fn for_access(&self) -> vfs::Credentials {
        let capabilities = if self.users.real == 0 { self.capabilities.permitted } else { 0 };
        vfs::Credentials {
            user: self.users.real,
            group: self.groups.real,
            groups: self.files.groups.clone(),
            capabilities: vfs::Capabilities::from_bits_retain(capabilities),
        }
    }

    /// What is counted for the real user.
    pub const fn counts(&self) -> &Arc<UserCounts> {
        &self.counts
    }

    /// The supplementary groups.
    pub fn supplementary(&self) -> &Arc<Vec<u32>> {
        &self.files.groups
    }

    /// Whether a capability is effective.
    pub const fn has(&self, capability: Capability) -> bool {
        self.capabilities.effective >> capability as u8 & 1 == 1
    }

    /// `EPERM` unless a capability is effective.
    ///
    /// # Errors
    /// `EPERM`.
    pub const fn require(&self, capability: Capability) -> Result<()> {
        if self.has(capability) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Makes the view of file operations agree.
    fn with_file_view(mut self) -> Self {
        self.files.user = self.users.files;
        self.files.group = self.groups.files;
        self.files.capabilities = vfs::Capabilities::from_bits_retain(self.capabilities.effective);
        self
    }

    /// Other user ids, with what capabilities(7) says about coming from and leaving user 0.
    fn with_users(&self, users: Ids) -> Credentials {
        let (old, mut new) = (self.users, self.clone());
        let sets = &mut new.capabilities;
        let had_root = old.any_is(0);
        if had_root && !users.any_is(0) {
            if !self.keep_capabilities {
                sets.permitted = 0;
                sets.effective = 0;
            }
            sets.ambient = 0;
        }
        if old.effective == 0 && users.effective != 0 {
            sets.effective = 0;
        } else if old.effective != 0 && users.effective == 0 {
            sets.effective = sets.permitted;
        }
        new.users = users;
        new.with_file_view()
    }

    fn with_groups(&self, groups: Ids) -> Credentials {
        Credentials { groups, ..self.clone() }.with_file_view()
    }

    /// setuid(2).
    ///
    /// # Errors
    /// `EINVAL` for -1, `EPERM`.
    pub fn set_user(&self, id: u32) -> Result<Credentials> {
        Ok(self.with_users(self.users.set(valid(id)?, self.has(Capability::SetUid))?))
    }

    /// setgid(2).
    ///
    /// # Errors
    /// As [`Credentials::set_user`].
    pub fn set_group(&self, id: u32) -> Result<Credentials> {
        Ok(self.with_groups(self.groups.set(valid(id)?, self.has(Capability::SetGid))?))
    }

    /// setreuid(2); -1 leaves as it is.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_real_effective_user(&self, real: u32, effective: u32) -> Result<Credentials> {
        let privileged = self.has(Capability::SetUid);
        Ok(self.with_users(self.users.set_real_effective(wanted(real), wanted(effective), privileged)?))
    }

    /// setregid(2).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_real_effective_group(&self, real: u32, effective: u32) -> Result<Credentials> {
        let privileged = self.has(Capability::SetGid);
        Ok(self.with_groups(self.groups.set_real_effective(wanted(real), wanted(effective), privileged)?))
    }

    /// setresuid(2).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_users(&self, real: u32, effective: u32, saved: u32) -> Result<Credentials> {
        let privileged = self.has(Capability::SetUid);
        Ok(self.with_users(self.users.set_all(wanted(real), wanted(effective), wanted(saved), privileged)?))
    }

    /// setresgid(2).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_groups(&self, real: u32, effective: u32, saved: u32) -> Result<Credentials> {
        let privileged = self.has(Capability::SetGid);
        Ok(self.with_groups(self.groups.set_all(wanted(real), wanted(effective), wanted(saved), privileged)?))
    }

    /// setfsuid(2). An id that is not allowed changes nothing: the call tells nobody.
    pub fn set_file_user(&self, id: u32) -> Credentials {
        if id == u32::MAX || !(self.has(Capability::SetUid) || self.users.any_is(id) || self.users.files == id) {
            return self.clone();
        }
        let mut new = self.clone();
        let sets = &mut new.capabilities;
        if self.users.files == 0 && id != 0 {
            sets.effective &= !FILE_CAPABILITIES;
        } else if self.users.files != 0 && id == 0 {
            sets.effective |= sets.permitted & FILE_CAPABILITIES;
        }
        new.users.files = id;
        new.with_file_view()
    }

    /// setfsgid(2).
    pub fn set_file_group(&self, id: u32) -> Credentials {
        if id == u32::MAX || !(self.has(Capability::SetGid) || self.groups.any_is(id) || self.groups.files == id) {
            return self.clone();
        }
        self.with_groups(Ids { files: id, ..self.groups })
    }

    /// setgroups(2).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_supplementary(&self, groups: Arc<Vec<u32>>) -> Result<Credentials> {
        self.require(Capability::SetGid)?;
        let mut new = self.clone();
        new.files.groups = groups;
        Ok(new)
    }

    /// capset(2).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn set_capabilities(&self, effective: u64, permitted: u64, inheritable: u64) -> Result<Credentials> {
        let old = self.capabilities;
        let inheritable_limit =
            old.inheritable | if self.has(Capability::SetPcap) { old.bounding } else { old.permitted };
        let allowed = permitted & !old.permitted == 0
            && effective & !permitted == 0
            && inheritable & !inheritable_limit == 0
            && inheritable & !(old.inheritable | old.bounding) == 0;
        if !allowed {
            return Err(Errno::EPERM);
        }
        let ambient = old.ambient & permitted & inheritable;
        let capabilities = CapabilitySets { effective, permitted, inheritable, ambient, ..old };
        Ok(Credentials { capabilities, ..self.clone() }.with_file_view())
    }

    /// prctl(PR_CAPBSET_DROP).
    ///
    /// # Errors
    /// `EPERM`.
    pub fn drop_bounding(&self, capability: u8) -> Result<Credentials> {
        self.require(Capability::SetPcap)?;
        let mut new = self.clone();
        new.capabilities.bounding &= !(1_u64 << capability.min(63));
        Ok(new)
    }

    /// What execve(2) of a file makes of them. `set_user` and `set_group` are the file's owners if its set-id bits count.
    /// Also tells whether the program is to be warned (`AT_SECURE`).
    pub fn execute(&self, set_user: Option<u32>, set_group: Option<u32>) -> (Credentials, bool) {
        let mut new = self.clone();
        if let Some(user) = set_user {
            new.users.effective = user;
        }
        if let Some(group) = set_group {
            new.groups.effective = group;
        }
        new.users.saved = new.users.effective;
        new.users.files = new.users.effective;
        new.groups.saved = new.groups.effective;
        new.groups.files = new.groups.effective;
        new.keep_capabilities = false;
        let changes = new.users.effective != self.users.effective || new.groups.effective != self.groups.effective;
        let sets = &mut new.capabilities;
        if changes {
            sets.ambient = 0;
        }
        // The superuser's programs have all capabilities, as if the file carried them.
        let root = new.users.effective == 0 || new.users.real == 0;
        sets.permitted = if root { sets.inheritable | sets.bounding } else { sets.ambient };
        sets.effective = if new.users.effective == 0 { sets.permitted } else { sets.ambient };
        let secure = new.users.effective != new.users.real || new.groups.effective != new.groups.real;
        (new.with_file_view(), secure)
    }

    /// Whether a process with these may send signals to one with those: kill(2).
    pub fn may_signal(&self, target: &Credentials) -> bool {
        let (sender, target) = (self.users, target.users);
        [sender.effective, sender.real].iter().any(|id| [target.saved, target.real].contains(id))
            || self.has(Capability::Kill)
    }

    /// Whether a thread with these may look into one with those: `PTRACE_MODE_READ_FSCREDS`. `dumpable` says whether the
    /// other's memory holds nothing that is to be kept from its user.
    pub fn may_inspect(&self, target: &Credentials, dumpable: bool) -> bool {
        let same = |id: u32, ids: &Ids| ids.real == id && ids.effective == id && ids.saved == id;
        let within = target.capabilities.permitted & !self.capabilities.effective == 0;
        same(self.users.files, &target.users) && same(self.groups.files, &target.groups) && dumpable && within
            || self.has(Capability::SysPtrace)
    }
}

/// `EINVAL` for -1, which no user or group has.
const fn valid(id: u32) -> Result<u32> {
    if id == u32::MAX { Err(Errno::EINVAL) } else { Ok(id) }
}

/// -1 means "leave as it is".
const fn wanted(id: u32) -> Option<u32> {
    if id == u32::MAX { None } else { Some(id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superuser() -> Credentials {
        Credentials::superuser(UserCounts::new(0))
    }

    fn user(id: u32) -> Credentials {
        superuser().set_groups(id, id, id).unwrap().set_user(id).unwrap()
    }

    #[test]
    fn the_superuser_who_becomes_somebody_loses_everything_for_good() {
        let somebody = user(1000);
        assert_eq!(somebody.users, Ids::all(1000));
        assert_eq!((somebody.capabilities.permitted, somebody.capabilities.effective), (0, 0));
        assert_eq!(somebody.for_files().user, 1000);
        assert!(somebody.for_files().capabilities.is_empty());
        assert_eq!(somebody.set_user(0).unwrap_err(), Errno::EPERM);
        assert_eq!(somebody.set_user(u32::MAX).unwrap_err(), Errno::EINVAL);
        assert_eq!(somebody.set_supplementary(Arc::default()).unwrap_err(), Errno::EPERM);
    }

    #[test]
    fn the_saved_id_lets_one_come_back() {
        let root = superuser();
        let away = root.set_users(u32::MAX, 5, u32::MAX).unwrap();
        assert_eq!((away.users.real, away.users.effective, away.users.saved), (0, 5, 0));
        assert_eq!((away.capabilities.effective, away.capabilities.permitted), (0, ALL_CAPABILITIES));
        let back = away.set_user(0).unwrap();
        assert_eq!(back.capabilities.effective, ALL_CAPABILITIES);
        assert_eq!(away.set_user(7).unwrap_err(), Errno::EPERM);
    }

    #[test]
    fn real_and_effective_can_be_swapped() {
        let (program, secure) = user(10).execute(Some(20), None);
        assert!(secure);
        assert_eq!(program.users, Ids { real: 10, effective: 20, saved: 20, files: 20 });
        let swapped = program.set_real_effective_user(20, 10).unwrap();
        assert_eq!(swapped.users, Ids { real: 20, effective: 10, saved: 10, files: 10 });
        assert_eq!(program.set_real_effective_user(30, u32::MAX).unwrap_err(), Errno::EPERM);
    }

    #[test]
    fn set_user_id_root_gives_all_capabilities() {
        let (program, secure) = user(10).execute(Some(0), None);
        assert!(secure && program.has(Capability::SysAdmin));
        assert_eq!(program.users.real, 10);
        let (plain, secure) = program.set_user(10).unwrap().execute(None, None);
        assert!(!secure && !plain.has(Capability::SysAdmin));
    }

    #[test]
    fn signals_need_a_common_user() {
        let (root, one, two) = (superuser(), user(1), user(2));
        assert!(root.may_signal(&one) && one.may_signal(&one));
        assert!(!one.may_signal(&two) && !one.may_signal(&root));
        let (program, _) = one.execute(Some(0), None);
        assert!(one.may_signal(&program), "the real user stays its master");
    }

    #[test]
    fn capabilities_only_shrink() {
        let root = superuser();
        let fewer = root.set_capabilities(0b11, 0b111, 0).unwrap();
        assert_eq!(fewer.set_capabilities(0b1111, 0b1111, 0).unwrap_err(), Errno::EPERM);
        assert_eq!(fewer.set_capabilities(0b111, 0b11, 0).unwrap_err(), Errno::EPERM);
        assert!(fewer.set_capabilities(0b1, 0b11, 0).is_ok());
    }

    #[test]
    fn the_file_user_takes_only_file_capabilities_along() {
        let root = superuser();
        let away = root.set_file_user(9);
        assert!(!away.has(Capability::DacOverride) && away.has(Capability::SysAdmin));
        assert_eq!(away.for_files().user, 9);
        assert!(away.set_file_user(0).has(Capability::DacOverride));
        assert_eq!(user(5).set_file_user(6).users.files, 5);
    }

    const NOBODY: u32 = u32::MAX;

    fn ids(real: u32, effective: u32, saved: u32) -> Ids {
        Ids { real, effective, saved, files: effective }
    }

    /// A process of user 1 with effective user 2 and saved user 3, without capabilities.
    fn mixed() -> Credentials {
        let mut mixed = user(9);
        mixed.users = ids(1, 2, 3);
        mixed.groups = ids(11, 12, 13);
        mixed.with_file_view()
    }

    /// setuid(2), setreuid(2), setresuid(2) of an ordinary process with three different ids; the rows are Linux's.
    #[test]
    fn an_ordinary_user_moves_among_the_ids_that_are_his() {
        let refused = Err(Errno::EPERM);
        let set = |id| mixed().set_user(id).map(|new| new.users);
        assert_eq!((set(1), set(3)), (Ok(ids(1, 1, 3)), Ok(ids(1, 3, 3))));
        assert_eq!((set(2), set(4)), (refused, refused));
        let swap = |real, effective| mixed().set_real_effective_user(real, effective).map(|new| new.users);
        for (real, effective, expected) in [
            (NOBODY, NOBODY, Ok(ids(1, 2, 3))),
            (2, 1, Ok(ids(2, 1, 1))),
            (3, NOBODY, refused),
            (NOBODY, 3, Ok(ids(1, 3, 3))),
            (NOBODY, 1, Ok(ids(1, 1, 3))),
            (NOBODY, 2, Ok(ids(1, 2, 2))),
            (1, NOBODY, Ok(ids(1, 2, 2))),
            (NOBODY, 4, refused),
        ] {
            assert_eq!(swap(real, effective), expected, "{real} {effective}");
        }
        let all = |real, effective, saved| mixed().set_users(real, effective, saved).map(|new| new.users);
        assert_eq!(all(3, 1, 2), Ok(ids(3, 1, 2)));
        assert_eq!(all(NOBODY, NOBODY, NOBODY), Ok(ids(1, 2, 3)));
        assert_eq!([all(4, NOBODY, NOBODY), all(NOBODY, 4, NOBODY), all(NOBODY, NOBODY, 4)], [refused; 3]);
    }

    #[test]
    fn groups_follow_the_same_rules() {
        let refused = Err(Errno::EPERM);
        let set = |id| mixed().set_group(id).map(|new| new.groups);
        assert_eq!((set(13), set(12)), (Ok(ids(11, 13, 13)), refused));
        assert_eq!(mixed().set_group(NOBODY).unwrap_err(), Errno::EINVAL);
        let swap = |real, effective| mixed().set_real_effective_group(real, effective).map(|new| new.groups);
        assert_eq!((swap(12, 11), swap(13, NOBODY)), (Ok(ids(12, 11, 11)), refused));
        let all = mixed().set_groups(13, 11, NOBODY).unwrap();
        assert_eq!((all.groups, all.for_files().group), (ids(13, 11, 13), 11));
        assert_eq!(superuser().set_group(7).unwrap().groups, ids(7, 7, 7));
        let root = superuser().set_real_effective_group(5, NOBODY).unwrap();
        assert_eq!(root.groups, ids(5, 0, 0));
        assert!(root.has(Capability::SysAdmin), "groups take no capability away");
    }

    #[test]
    fn capabilities_leave_with_user_0_unless_they_are_kept() {
        let mut root = superuser();
        root.capabilities.ambient = 0b100;
        let gone = root.set_users(5, 6, 7).unwrap().capabilities;
        assert_eq!((gone.permitted, gone.effective, gone.ambient), (0, 0, 0));
        root.keep_capabilities = true;
        let kept = root.set_users(5, 6, 7).unwrap().capabilities;
        assert_eq!((kept.permitted, kept.effective, kept.ambient), (ALL_CAPABILITIES, 0, 0));
        // As long as one of the three is 0, only the effective set follows.
        let saved = root.set_users(5, 6, 0).unwrap().capabilities;
        assert_eq!((saved.permitted, saved.effective, saved.ambient), (ALL_CAPABILITIES, 0, 0b100));
        // Who was not effectively 0 keeps what he made effective.
        let mut partly = root.set_users(0, 6, 0).unwrap();
        partly.capabilities.effective = 0b1 << Capability::SetUid as u8;
        assert_eq!(partly.set_users(NOBODY, 7, NOBODY).unwrap().capabilities.effective, 1 << 7);
        assert_eq!(partly.set_users(NOBODY, 0, NOBODY).unwrap().capabilities.effective, ALL_CAPABILITIES);
    }

    #[test]
    fn the_file_user_is_one_of_the_four_or_the_change_is_not_made() {
        for (id, expected) in [(1, 1), (2, 2), (3, 3), (4, 2), (NOBODY, 2)] {
            assert_eq!(mixed().set_file_user(id).users.files, expected);
            let group = if id == NOBODY { id } else { id + 10 };
            assert_eq!(mixed().set_file_group(group).groups.files, expected + 10);
        }
        let mut own = mixed();
        (own.users.files, own.groups.files) = (8, 18);
        assert_eq!((own.set_file_user(8).users.files, own.set_file_group(18).groups.files), (8, 18));
        assert_eq!(superuser().set_file_user(NOBODY).users.files, 0);
        assert_eq!(superuser().set_file_group(99).for_files().group, 99);
        assert_eq!(superuser().set_file_group(NOBODY).groups.files, 0);
        // Exactly the capabilities of files go and come: chown, the overrides, owner, set-id, mknod, immutable, MAC.
        let away = superuser().set_file_user(9);
        let files = ALL_CAPABILITIES & !away.capabilities.effective;
        assert_eq!(files, 0b1_1111 | 1 << 9 | 1 << 27 | 1 << 32);
        assert_eq!(away.set_file_user(10).capabilities.effective, away.capabilities.effective);
        let mut fewer = away;
        fewer.capabilities.permitted = 0b10;
        fewer.capabilities.effective = 1 << Capability::SetUid as u8;
        assert_eq!(fewer.set_file_user(0).capabilities.effective, 1 << 7 | 0b10);
    }

    #[test]
    fn capset_takes_what_is_permitted_and_inherits_what_is_bounded() {
        let mut own = user(5);
        own.capabilities =
            CapabilitySets { inheritable: 0b1, permitted: 0b110, effective: 0, bounding: 0b1110, ambient: 0b1 };
        let set = |own: &Credentials, effective, permitted, inheritable| {
            own.set_capabilities(effective, permitted, inheritable).map(|new| new.capabilities).ok()
        };
        let sets = set(&own, 0b10, 0b10, 0b111).unwrap();
        assert_eq!((sets.effective, sets.permitted, sets.inheritable, sets.ambient), (0b10, 0b10, 0b111, 0));
        assert!(set(&own, 0b100, 0b10, 0).is_none() && set(&own, 0, 0b1110, 0).is_none());
        assert!(set(&own, 0, 0, 0b1000).is_none(), "inheritable beyond what is permitted");
        own.capabilities.effective = 1 << Capability::SetPcap as u8;
        assert!(set(&own, 0, 0, 0b1000).is_some(), "with CAP_SETPCAP all that is bounded");
        assert!(set(&own, 0, 0, 0b1_0000).is_none());
        own.capabilities =
            CapabilitySets { inheritable: 0b1, permitted: 0b110, effective: 0, bounding: 0, ambient: 0b110 };
        assert!(set(&own, 0, 0, 0b10).is_none(), "nothing new beyond what is bounded");
        own.capabilities.bounding = 0b110;
        assert_eq!(set(&own, 0, 0b110, 0b10).unwrap().ambient, 0b10, "ambient is permitted and inheritable");
        assert_eq!(set(&own, 0, 0b100, 0b110).unwrap().ambient, 0b100);
    }

    #[test]
    fn the_bounding_set_loses_one_at_a_time() {
        let root = superuser();
        let fewer = root.drop_bounding(5).unwrap().drop_bounding(0).unwrap();
        assert_eq!(fewer.capabilities.bounding, ALL_CAPABILITIES & !0b10_0001);
        assert_eq!(user(5).drop_bounding(5).unwrap_err(), Errno::EPERM);
        assert!(root.drop_bounding(200).is_ok());
        // Without it, set-user-ID root gives no such capability.
        let (program, _) = fewer.set_users(7, 7, 7).unwrap().execute(Some(0), None);
        assert_eq!(program.capabilities.permitted, ALL_CAPABILITIES & !0b10_0001);
    }

    #[test]
    fn execve_follows_capabilities_7() {
        let mut own = user(5);
        own.capabilities.ambient = 0b11;
        own.keep_capabilities = true;
        let (plain, secure) = own.execute(None, None);
        assert!(!secure && !plain.keep_capabilities);
        let sets = plain.capabilities;
        assert_eq!((sets.permitted, sets.effective, sets.ambient), (0b11, 0b11, 0b11));
        // Another effective user or group: no ambient capabilities, and AT_SECURE.
        for (set_user, set_group) in [(Some(6), None), (None, Some(6))] {
            let (program, secure) = own.execute(set_user, set_group);
            assert!(secure);
            assert_eq!((program.capabilities.permitted, program.capabilities.ambient), (0, 0));
            assert_eq!(program.users, ids(5, set_user.unwrap_or(5), set_user.unwrap_or(5)));
            assert_eq!(program.groups, ids(5, set_group.unwrap_or(5), set_group.unwrap_or(5)));
        }
        let (same, secure) = own.execute(Some(5), Some(5));
        assert!(!secure && same.capabilities.ambient == 0b11);
        // A real user 0 has them permitted, only an effective one in effect; inheritable ones count even if not bounded.
        let mut root = superuser();
        root.capabilities.bounding = 0b100;
        root.capabilities.inheritable = 0b1;
        let (program, _) = root.execute(None, None);
        assert_eq!((program.capabilities.permitted, program.capabilities.effective), (0b101, 0b101));
        let (program, _) = root.execute(Some(5), None);
        assert_eq!((program.capabilities.permitted, program.capabilities.effective), (0b101, 0));
    }

    #[test]
    fn access_asks_with_the_real_ids() {
        let (program, _) = user(10).execute(Some(0), Some(20));
        let real = program.for_access();
        assert_eq!((real.user, real.group), (10, 10));
        assert!(real.capabilities.is_empty());
        let mut root = superuser();
        root.capabilities.effective = 0;
        assert_eq!(root.for_access().capabilities.bits(), ALL_CAPABILITIES);
    }

    /// kill(2): the sender's real or effective user is the target's real or saved one.
    #[test]
    fn who_may_signal_whom() {
        let of = |real, effective, saved| {
            let mut own = user(9);
            own.users = ids(real, effective, saved);
            own.with_file_view()
        };
        for (sender, target, may) in [
            (of(1, 2, 3), of(1, 8, 8), true),
            (of(1, 2, 3), of(8, 8, 1), true),
            (of(1, 2, 3), of(2, 8, 8), true),
            (of(1, 2, 3), of(8, 8, 2), true),
            (of(1, 2, 3), of(8, 1, 8), false),
            (of(1, 2, 3), of(8, 2, 8), false),
            (of(1, 2, 3), of(3, 3, 3), false),
        ] {
            assert_eq!(sender.may_signal(&target), may);
        }
        let mut root = superuser();
        root.capabilities.effective = 1 << Capability::Kill as u8;
        assert!(root.may_signal(&user(4)));
        root.capabilities.effective = !(1 << Capability::Kill as u8);
        assert!(!root.may_signal(&user(4)));
    }

    /// `PTRACE_MODE_READ_FSCREDS`: ptrace(2).
    #[test]
    fn who_may_look_into_whom() {
        assert!(user(5).may_inspect(&user(5), true) && !user(5).may_inspect(&user(5), false));
        assert!(!user(5).may_inspect(&user(6), true) && superuser().may_inspect(&user(6), false));
        for change in [
            |target: &mut Credentials| target.users.real = 6,
            |target: &mut Credentials| target.users.effective = 6,
            |target: &mut Credentials| target.users.saved = 6,
            |target: &mut Credentials| target.groups.real = 6,
            |target: &mut Credentials| target.groups.effective = 6,
            |target: &mut Credentials| target.groups.saved = 6,
            |target: &mut Credentials| target.capabilities.permitted = 0b10,
        ] {
            let mut target = user(5);
            change(&mut target);
            assert!(!user(5).may_inspect(&target, true), "{target:?}");
            let mut able = user(5);
            able.capabilities.effective = 0b11;
            assert_eq!(able.may_inspect(&target, true), target.capabilities.permitted != 0);
        }
        let mut other = user(5);
        (other.users.files, other.groups.files) = (7, 5);
        assert!(!other.may_inspect(&user(5), true));
    }

    #[test]
    fn only_who_has_the_capability_chooses_his_groups() {
        let root = superuser().set_supplementary(Arc::new(vec![3, 1])).unwrap();
        assert_eq!(**root.supplementary(), [3, 1]);
        assert_eq!(*root.for_access().groups, [3, 1]);
        assert_eq!((user(1).require(Capability::Kill), root.require(Capability::Kill)), (Err(Errno::EPERM), Ok(())));
    }
}
