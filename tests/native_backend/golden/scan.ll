define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) #0 {
entry:
  %b0.p = getelementptr inbounds ptr, ptr %args, i64 0
  %b0 = load ptr, ptr %b0.p, !dereferenceable !3
  %b1.p = getelementptr inbounds ptr, ptr %results, i64 0
  %b1 = load ptr, ptr %b1.p, !dereferenceable !3
  br label %L1
L1:
  %0 = phi i64 [ 0, %entry ], [ %6, %L1 ]
  %1 = phi double [ 0x0000000000000000, %entry ], [ %4, %L1 ]
  %2 = getelementptr inbounds double, ptr %b0, i64 %0
  %3 = load double, ptr %2, align 8, !alias.scope !7
  %4 = fadd double %1, %3
  %5 = getelementptr inbounds double, ptr %b1, i64 %0
  store double %4, ptr %5, align 8, !alias.scope !8, !noalias !9
  %6 = add nsw i64 %0, 1
  %7 = icmp slt i64 %6, 9
  br i1 %7, label %L1, label %L2, !llvm.loop !10
L2:
  ret i32 0
}

attributes #0 = { nounwind alignstack=64 }
attributes #1 = { noinline nounwind alignstack=64 }
attributes #2 = { nofree norecurse nosync nounwind willreturn memory(none) }
attributes #3 = { nounwind }
attributes #4 = { alwaysinline nofree norecurse nosync nounwind willreturn memory(none) }
attributes #5 = { noinline nofree norecurse nosync nounwind willreturn memory(none) }

!0 = !{!"branch_weights", i32 1, i32 1048576}
!1 = !{!"llvm.loop.mustprogress"}
!2 = !{i32 1}
!3 = !{i64 72}
!4 = distinct !{!4}
!5 = distinct !{!5, !4}
!6 = distinct !{!6, !4}
!7 = !{!5}
!8 = !{!6}
!9 = !{!5}
!10 = distinct !{!10, !1}
